"""The stack on one machine without containers: Kafka, database, actuator and services as supervised processes."""
