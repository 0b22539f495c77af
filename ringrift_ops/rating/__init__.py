"""What games prove: paired intervals, sequential tests and the promotion gate, as pure functions of counts.

Nothing here reads a file, plays a game or looks at a clock. The doors are ``gate.decide`` and
``gate.overall``; ``python -m ringrift_ops.rating.simulate`` measures the error rates of the same code.
"""
