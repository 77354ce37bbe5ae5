//! The same cases, sent to a server on a socket.

use encke::peers::Settings;

use super::{CLIENT, play, play_all, publish};
use crate::support::play::Driver;
use crate::support::real::{Real, serve_if_asked};
use crate::support::step;
use crate::support::transcript::Action;
use crate::support::world;

/// Not a test of its own: the server that the next one plays against.
#[test]
fn server() {
    serve_if_asked();
}

fn start(settings: &Settings) -> Real {
    let mut server = Real::new(settings, "conformance::tcp::server");
    publish(&mut server, 1);
    server
}

/// One server is enough for all cases that leave it as it was.
#[test]
fn cases_over_tcp() {
    let settings = world::settings();
    let mut shared = start(&settings);
    let mut alone = 0;
    play_all(|case| {
        alone += usize::from(!case.is_harmless());
        if !case.is_harmless() && !alone.is_multiple_of(step(4)) {
            return;
        }
        let mut own = (!case.is_harmless()).then(|| start(&settings));
        let server = own.as_mut().unwrap_or(&mut shared);
        play(case, server, 0);
        server.act(CLIENT, &Action::Reset);
    });
}
