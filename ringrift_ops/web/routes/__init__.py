"""The routes, by what they are about. Each calls one function of ``operations/``."""
