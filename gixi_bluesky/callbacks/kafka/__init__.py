"""Documents from Kafka: offsets are committed only when all earlier documents are safe."""
