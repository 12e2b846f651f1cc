//! The group's secret, and the keys derived from it.
