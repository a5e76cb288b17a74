"""The log: records, brokers, loops over them. Services import `kafka`, `stage`, `consumer`, `producer`, `table`."""
