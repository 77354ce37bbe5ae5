//! Each trap of serving an audience in slices by itself, at every place and moment it can happen.

use encke::peers::Settings;

use super::TECHNIQUES;
use super::viewers::{Cut, How, Viewers};
use crate::support::client::Technique;
use crate::support::step;
use crate::support::world::settings;

const CUTS: [Cut; 3] = [Cut::Reset, Cut::End, Cut::SendError];
/// The set of those who want `a` only.
const A: usize = 1;

/// So many viewers of `a`, of whom so many are served in a turn, and as many places more.
fn audience(technique: Technique, count: usize, sends_per_turn: u32) -> Viewers {
    let settings = Settings {
        viewers: 2 * count as u32 + 8,
        ring_bytes: 1 << 20,
        sends_per_turn,
        ..settings()
    };
    let mut viewers = Viewers::new(settings, count + 1);
    viewers.roomy = true;
    for v in 0..count {
        viewers.join(v, How::Live, technique, A);
    }
    viewers.read_all();
    viewers
}

fn turns(viewers: &mut Viewers, count: usize) {
    for _ in 0..count {
        viewers.world.turn();
    }
}

#[test]
fn a_turn_sends_so_much_and_no_more() {
    for technique in TECHNIQUES {
        let mut viewers = audience(technique, 50, 7);
        viewers.publish(0, 1);
        let begun = viewers.world.peers.outlet.sends;
        for turn in 1..=8 {
            assert!(viewers.world.peers.is_eager(), "it goes on by itself");
            viewers.world.turn();
            let sends = viewers.world.peers.outlet.sends - begun;
            assert_eq!(sends, 50.min(7 * turn), "{technique:?}");
        }
        viewers.world.turn();
        assert!(!viewers.world.peers.is_eager(), "{technique:?}: it is done");
        assert_eq!(viewers.world.peers.outlet.sends - begun, 50);
        viewers.end();
    }
}

#[test]
fn others_have_their_turn_between_two_slices() {
    let mut viewers = audience(Technique::Sse, 50, 7);
    viewers.publish(0, 1);
    viewers.world.turn();
    let sends = viewers.world.peers.outlet.sends;
    let page = viewers.world.connect().unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: pi\r\n\r\n";
    viewers.world.feed(page, request);
    viewers.world.turn();
    assert!(viewers.world.take(page).starts_with(b"HTTP/1.1 200 OK"));
    assert!(viewers.world.peers.outlet.sends <= sends + 8);
    viewers.end();
}

/// What else happens when a member goes.
#[derive(Clone, Copy, Debug)]
enum Also {
    Nothing,
    Publish,
    Post,
    Join(How, Technique),
}

#[test]
fn a_member_goes_and_another_comes_at_any_moment() {
    let mut also = vec![Also::Nothing, Also::Publish, Also::Post];
    for how in [How::Resume, How::Snapshot, How::Live] {
        also.extend(TECHNIQUES.map(|technique| Also::Join(how, technique)));
    }
    for technique in TECHNIQUES {
        for victim in (0..9).step_by(step(4)) {
            for moment in 0..4 {
                // All that may come with it once, and the rest of how it may go.
                let resets = also.iter().map(|also| (&CUTS[0], also));
                let others = CUTS[1..].iter().map(|cut| (cut, &Also::Publish));
                for (cut, also) in resets.chain(others) {
                    let mut viewers = audience(technique, 9, 3);
                    // Who joins later has an old cursor, and wants what the others want.
                    viewers.join(9, How::Live, technique, A);
                    viewers.read_all();
                    viewers.publish(0, 1);
                    viewers.world.settle();
                    viewers.read_all();
                    viewers.cut(9, Cut::Reset);
                    viewers.publish(0, 2);
                    viewers.publish(1, 2);
                    turns(&mut viewers, moment);
                    viewers.cut(victim, *cut);
                    match *also {
                        Also::Nothing => {}
                        Also::Publish => viewers.publish(0, 3),
                        Also::Post => viewers.post(0, 3),
                        Also::Join(how, technique) => viewers.join(9, how, technique, A),
                    }
                    viewers.world.turn();
                    viewers.read_all();
                    viewers.publish(0, 4);
                    viewers.end();
                }
            }
        }
    }
}

#[test]
fn an_audience_that_everybody_leaves_begins_anew() {
    for technique in TECHNIQUES {
        for moment in 0..4 {
            for cut in CUTS {
                for how in [How::Resume, How::Snapshot, How::Live] {
                    let mut viewers = audience(technique, 9, 3);
                    viewers.publish(0, 1);
                    turns(&mut viewers, moment);
                    (0..9).for_each(|v| viewers.cut(v, cut));
                    viewers.publish(0, 2);
                    // In the turn in which all are gone, and in a later one.
                    (0..4).for_each(|v| viewers.join(v, how, technique, A));
                    viewers.world.turn();
                    (4..9).for_each(|v| viewers.join(v, how, technique, A));
                    viewers.publish(0, 3);
                    viewers.end();
                }
            }
        }
    }
}

#[test]
fn a_slot_given_away_in_the_same_turn_is_its_new_owners() {
    for technique in TECHNIQUES {
        for victim in 0..9 {
            for moment in 0..4 {
                let mut viewers = audience(technique, 9, 3);
                viewers.publish(0, 1);
                turns(&mut viewers, moment);
                viewers.read_all();
                let old = viewers.all[victim].client.unwrap();
                viewers.cut(victim, Cut::Reset);
                viewers.join(9, How::Live, technique, A);
                let new = viewers.all[9].client.unwrap();
                let slots = [old, new].map(|client| viewers.world.wire(client).slot);
                assert_eq!(slots[0], slots[1], "the slot is used again");
                viewers.world.nudge(new);
                viewers.read_all();
                viewers.publish(0, 2);
                viewers.end();
            }
        }
    }
}

#[test]
fn a_socket_that_fills_at_any_byte_goes_on_there() {
    for technique in [Technique::Sse, Technique::Stream] {
        for (sends_per_turn, newer) in [(512, 0), (64, 2), (5, 90)] {
            let mut viewers = audience(technique, 700, sends_per_turn);
            for v in 0..700 {
                viewers.stall(v, v, usize::MAX);
            }
            (1..=4).for_each(|n| viewers.publish(0, n));
            viewers.world.turn();
            (0..newer).for_each(|n| viewers.publish(n % 3, n));
            viewers.world.settle();
            for v in 0..250 {
                let bytes = viewers.world.wire(v).outbound.len();
                assert_eq!(
                    bytes, v,
                    "{technique:?} {sends_per_turn}: blocked at its byte"
                );
            }
            // Some go on byte by byte, some at once.
            for v in (0..700).step_by(9) {
                viewers.stall(v, v + 1, 1);
                (0..20).for_each(|_| {
                    viewers.read(v, 1);
                    viewers.world.turn();
                });
            }
            (0..700).for_each(|v| viewers.go_on(v));
            viewers.read_all();
            viewers.publish(0, 1);
            viewers.end();
        }
    }
}

#[test]
fn a_polls_answer_that_stops_at_any_byte_goes_on_there() {
    for first in (0..560).step_by(56) {
        let mut viewers = audience(Technique::Poll, 56, 5);
        for v in 0..56 {
            viewers.stall(v, first + v, usize::MAX);
        }
        (1..=4).for_each(|n| viewers.publish(0, n));
        viewers.world.turn();
        viewers.publish(0, 5);
        viewers.world.settle();
        (0..56).for_each(|v| viewers.go_on(v));
        viewers.read_all();
        viewers.publish(0, 1);
        viewers.end();
    }
}

#[test]
fn polls_that_ask_again_between_slices_miss_nothing_and_hear_nothing_twice() {
    for (count, sends_per_turn) in [(12, 1), (12, 3), (40, 7), (40, 512)] {
        for wait in 1..4 {
            let mut viewers = audience(Technique::Poll, count, sends_per_turn);
            for n in 0..120 {
                if n % 4 != 0 {
                    viewers.publish(n % 2, n);
                }
                viewers.world.turn();
                if n % wait == 0 {
                    viewers.read_all();
                }
            }
            viewers.end();
        }
    }
}

#[test]
fn a_catch_up_at_the_cap_goes_on_without_being_asked() {
    for technique in TECHNIQUES {
        let mut viewers = audience(technique, 3, 2);
        let counts = [1, 63, 64, 65, 127, 128, 129, 300].map(|count| vec![1; count]);
        // Eight of these and a small one just fit what is rendered in one go, or just do not.
        let bytes = (1..420)
            .step_by(step(8))
            .map(|last| [vec![8000; 8], vec![last]].concat());
        for sizes in counts.into_iter().chain(bytes) {
            for v in 0..3 {
                viewers.cut(v, Cut::Reset);
            }
            sizes.iter().for_each(|bytes| viewers.publish(0, *bytes));
            viewers.join(0, How::Resume, technique, A);
            viewers.world.turn();
            viewers.join(1, How::Resume, technique, A);
            viewers.world.settle();
            viewers.read_all();
            assert!(
                viewers.is_caught_up(0) && viewers.is_caught_up(1),
                "{} events",
                sizes.len()
            );
        }
        viewers.end();
    }
}

#[test]
fn who_sends_no_more_still_hears_and_who_is_gone_is_let_go() {
    for technique in TECHNIQUES {
        for moment in 0..5 {
            let mut viewers = audience(technique, 9, 3);
            if moment == 4 {
                (0..9).for_each(|v| viewers.half_close(v));
            }
            viewers.publish(0, 1);
            turns(&mut viewers, moment);
            (0..9).for_each(|v| viewers.half_close(v));
            viewers.world.settle();
            viewers.read_all();
            assert!(
                (0..9).all(|v| viewers.is_caught_up(v)),
                "{technique:?} {moment}"
            );
            if technique != Technique::Poll {
                viewers.publish(0, 2);
                viewers.world.settle();
                viewers.read_all();
                assert!(
                    (0..9).all(|v| viewers.is_caught_up(v)),
                    "{technique:?} {moment}"
                );
            }
            (0..9).for_each(|v| viewers.cut(v, Cut::SendError));
            viewers.publish(0, 3);
            viewers.world.settle();
            assert_eq!(viewers.world.peers.in_use().slots, 0);
            viewers.end();
        }
    }
}
