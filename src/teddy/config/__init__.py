"""Types and rules of the configuration. The YAML files in ``conf/`` hold the values."""
