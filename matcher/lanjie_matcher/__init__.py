"""The pure core of lanjie: identifiers, fingerprints, the local filter, sync state, measures and `decide`.

Nothing here does I/O or reads a clock; time and keys are arguments.
"""
