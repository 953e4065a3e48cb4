//! The log on a real Pulsar: what every log does, and what only this one does.

#[path = "../behaviour/mod.rs"]
mod behaviour;
mod bootstrap;
mod broker;
mod failures;
mod readers;
#[path = "../stack/pulsar.rs"]
mod stack;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
