"""Those who are told and cannot answer: the log, the live picture, plain progress lines.

`log`, `picture` and `progress` are imported by their own names: structlog and rich take longer to
load than some commands to run.
"""
