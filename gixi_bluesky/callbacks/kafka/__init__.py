"""Documents from Kafka: offsets move only when what came before them is safe."""
