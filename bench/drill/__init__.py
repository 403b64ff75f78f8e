"""What the server does when it is asked for too much, when parts of it die, and when its model changes: `make drill`.

    overload    three times what it can: who is refused how fast, who is answered how late, and the time after
    failure     killed and stopped processes, full shared memory, slow, silent, idle and outsize clients
    change      a new model version and the way back, under load
    soak        80 % of what it can, for as long as asked: memory, shared memory and file descriptors

Each drill starts servers of its own (the real Triton) on free ports of 127.0.0.1, prints a table with what was found
beside what was wanted, and writes both to ``results/``.
"""
