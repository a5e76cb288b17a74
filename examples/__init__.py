"""Programs that use Lepton from outside, as its users do: over Kafka, REST and the SDK."""
