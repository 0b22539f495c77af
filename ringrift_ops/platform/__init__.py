"""The platform of one machine: Airflow's components under a small keeper of our own (``make run``).

Two processes hold it together. The *front* is what a person starts: it prints, shows the live view and
passes signals on. The *keeper* below it starts the components, restarts what dies and ends everything.
Both are subreapers and the keeper is told when the front dies, so that no single ``kill -9`` leaves a
process behind.
"""
