//! All tests that go beyond one file, as one binary.
#![expect(clippy::unwrap_used, reason = "a test may say so")]

mod alloc;
mod churn;
mod clients;
mod conformance;
mod content;
mod corpus;
mod feeds;
mod golden;
mod hub;
mod live;
mod page;
mod peers;
mod pictures;
mod presence;
mod sensors;
mod sim;
mod strangers;
mod support;
mod tidy;
mod websocket;
