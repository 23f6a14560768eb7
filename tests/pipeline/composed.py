"""What the server that commands are forked from has done beside importing: one composition of the quick start.

Every first composition in a process looks for Hydra's plug-ins and builds the tables of its grammar.
"""

from teddy.config.command import check_jobs, read_command
from teddy.config.schema import register_schemas

register_schemas()
check_jobs(read_command([]))
