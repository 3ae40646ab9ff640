"""The programs that run in engine children. They import nothing of the node but this package."""
