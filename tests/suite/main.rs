//! All tests that go beyond one file, as one binary.

mod live;
