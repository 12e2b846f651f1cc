//! The disk side as one facade: takes the engine's disk actions, sends back events.
