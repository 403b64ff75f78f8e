"""Code that runs inside Triton, a folder per backend, each imported by Triton through its ``model.py``.

Not imported by anything else in this project but its tests.
"""
