//! Installing in batches: verify, make durable, exchange, look at what came out, keep it.
