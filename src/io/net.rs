//! The network side as one facade: takes the engine's network actions, sends back events.
