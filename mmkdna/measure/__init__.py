"""What a config costs beside its plain twin: size, time, memory, scores."""
