"""What is concluded from cells, and what is measured once a model instead of once a cell.

accuracy         on labelled text, through the server
facts            a model's architecture and size, from the repository on this machine
capacity         the rules: what a limit leaves, when a rate is sustained, where the knee is
capacity_search  the measurements that find it
cost             the formula of what a thousand requests cost
hardware         this machine's measured row, and the file that keeps such rows
"""
