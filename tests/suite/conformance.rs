//! HTTP that no client can break: every case below `tests/conformance`, sent whole, byte by byte,
//! cut in two at each byte, and over TCP. However it is cut, the answers must be the same bytes.

mod answer;
mod case;
mod tcp;

use std::panic::{AssertUnwindSafe, catch_unwind};

use answer::Answer;
use case::{Case, Step, Wanted};
use encke::hub::event::State;

use crate::support::play::{Cut, Driver, Virtual};
use crate::support::transcript::Action;
use crate::support::world;

const CLIENT: usize = 1;
const PROBE: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Cases longer than this are cut at their ends and at some places between.
const SHORT: usize = 1024;

fn publish(driver: &mut impl Driver, value: u32) {
    let action = Action::Publish {
        topic: "a".into(),
        value: value.to_string(),
        state: State::Ok,
    };
    driver.act(CLIENT, &action);
    driver.turn();
}

/// One case being played: what came, and what of it was not read yet.
struct Play<'d, D> {
    driver: &'d mut D,
    all: Vec<u8>,
    read: usize,
    ended: bool,
}

impl<D: Driver> Play<'_, D> {
    /// Takes what comes; where time is real, waits for `wanted` bytes or the end.
    fn take(&mut self, wanted: usize) -> bool {
        let bytes = self.driver.receive(CLIENT, wanted);
        self.all.extend_from_slice(&bytes);
        !bytes.is_empty()
    }

    fn answer(&mut self, wanted: &Wanted) {
        loop {
            let read = Answer::read(&self.all[self.read..], wanted.head, self.ended).unwrap();
            if let Some((answer, rest)) = read {
                answer.check(wanted).unwrap();
                self.read = self.all.len() - rest.len();
                return;
            }
            if !self.take(1) {
                assert!(!self.ended, "the connection ended before the answer");
                self.ended = self.driver.is_ended(CLIENT, true);
                assert!(self.ended, "no answer of status {}", wanted.status);
            }
        }
    }

    fn check_quiet(&mut self, ended: bool) {
        self.take(0);
        let more = self.all[self.read..].escape_ascii();
        assert_eq!(more.to_string(), "", "nothing more was expected");
        let is_ended = self.driver.is_ended(CLIENT, ended);
        assert_eq!(is_ended, ended, "the connection ended, or not");
    }

    /// What the last step says of the connection must be so.
    fn check_end(&mut self, last: &Step) {
        match last {
            Step::Answer(Wanted {
                keep: Some(keep), ..
            }) => {
                self.check_quiet(!keep);
                self.driver.send(CLIENT, PROBE);
                if *keep {
                    let wanted = Wanted {
                        status: 200,
                        keep: Some(true),
                        ..Wanted::default()
                    };
                    self.answer(&wanted);
                }
                self.check_quiet(!keep);
            }
            Step::Hold => self.check_quiet(false),
            other => panic!("a case does not end so: {other:?}"),
        }
    }
}

/// Plays a case, each of its packets cut at `cut` octets from the start of the input; what came.
fn play(case: &Case, driver: &mut impl Driver, cut: usize) -> Vec<u8> {
    driver.connect(CLIENT);
    let mut play = Play {
        driver,
        all: Vec::new(),
        read: 0,
        ended: false,
    };
    let mut sent = 0;
    let mut steps = case.steps.iter().peekable();
    while let Some(step) = steps.next() {
        match step {
            Step::Send(bytes) => {
                let (first, second) = bytes.split_at(cut.saturating_sub(sent).min(bytes.len()));
                for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
                    play.driver.send(CLIENT, part);
                }
                sent += bytes.len();
            }
            Step::Hold => {
                play.check_quiet(false);
                if matches!(steps.peek(), Some(Step::Answer(_))) {
                    publish(play.driver, 2);
                }
            }
            Step::Answer(wanted) => play.answer(wanted),
        }
    }
    play.check_end(case.steps.last().expect("a case has steps"));
    play.all
}

fn play_virtually(case: &Case, how: Cut, cut: usize) -> Vec<u8> {
    let mut driver = Virtual::new(world::settings(), how);
    publish(&mut driver, 1);
    play(case, &mut driver, cut)
}

/// Plays each case, and names all that do not go as they are written.
fn play_all(mut play: impl FnMut(&Case)) {
    let cases = case::all();
    let goes = |case: &&Case| {
        let played = catch_unwind(AssertUnwindSafe(|| play(case)));
        if played.is_err() {
            eprintln!("    in {} # {}", case.place, case.title);
        }
        played.is_err()
    };
    let failed: Vec<_> = cases.iter().filter(goes).map(|case| &case.place).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        cases.len()
    );
}

#[test]
fn each_case_names_what_asks_for_it() {
    let cases = case::all();
    assert!(cases.len() >= 200, "{} cases", cases.len());
    for case in &cases {
        let names = case.title.starts_with("RFC ") && case.title.contains(": ");
        assert!(names, "{}: {}", case.place, case.title);
    }
}

#[test]
fn cases_whole() {
    play_all(|case| drop(play_virtually(case, Cut::Whole, 0)));
}

#[test]
fn cases_byte_by_byte() {
    play_all(|case| {
        let whole = play_virtually(case, Cut::Whole, 0);
        assert_eq!(play_virtually(case, Cut::Bytes, 0), whole, "byte by byte");
    });
}

#[test]
fn cases_cut_in_two_at_each_byte() {
    play_all(|case| {
        let len = case.input().len();
        let whole = play_virtually(case, Cut::Whole, 0);
        // Where the processor is emulated, each cut takes as long as twenty.
        let (step, near) = match std::env::var_os("ENCKE_RUNNER") {
            _ if len > SHORT => (4099, 24),
            Some(_) => (41, 2),
            None => (1, 24),
        };
        let is_made = |cut: &usize| *cut < near || cut + near > len || cut.is_multiple_of(step);
        for cut in (1..len).filter(is_made) {
            assert_eq!(play_virtually(case, Cut::Whole, cut), whole, "cut at {cut}");
        }
    });
}

/// What comes to this input, and whether the connection is open still.
fn answered(input: &[u8], how: Cut) -> (String, bool) {
    let mut driver = Virtual::new(world::settings(), how);
    publish(&mut driver, 1);
    driver.connect(CLIENT);
    driver.send(CLIENT, input);
    driver.pass(15_000);
    let bytes = driver.receive(CLIENT, 0);
    let text = String::from_utf8(bytes).unwrap();
    (text, !driver.is_ended(CLIENT, false))
}

#[test]
fn a_stream_is_the_last_answer_of_its_connection() {
    for (line, opens) in [
        ("GET /events/sse HTTP/1.1", true),
        ("GET /events/stream HTTP/1.0", false),
    ] {
        for how in [Cut::Whole, Cut::Bytes] {
            let head = format!("{line}\r\nHost: localhost\r\n\r\n").into_bytes();
            let (text, is_open) = answered(&[&head, PROBE, PROBE].concat(), how);
            assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
            assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
            assert_eq!(text.contains("Transfer-Encoding: chunked"), opens, "{text}");
            assert!(is_open, "{line}");
        }
    }
}

#[test]
fn a_request_that_is_late_ends_its_connection_and_a_late_head_gets_no_content() {
    let late = [
        ("HEAD / HT", false),
        ("\r\nHEAD / HTTP/1.1\r\nHost: localhost\r\n", false),
        ("GET / HT", true),
        ("HEAD", true),
    ];
    for (input, has_content) in late {
        let (text, is_open) = answered(input.as_bytes(), Cut::Whole);
        assert!(text.starts_with("HTTP/1.1 408 "), "{input:?}: {text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        assert_eq!(
            !text.ends_with("\r\n\r\n"),
            has_content,
            "{input:?}: {text}"
        );
        assert!(!is_open, "{input:?}");
    }
}

/// A body that is there with its head needs no 100, and one that comes later has its 100 once.
#[test]
fn whoever_expects_100_but_does_not_wait_is_understood() {
    let input = "POST /topics/b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
                 Content-Length: 2\r\n\r\n42";
    let next = core::str::from_utf8(PROBE).unwrap();
    let both = format!("{input}{next}");
    for (how, interim) in [(Cut::Whole, 0), (Cut::Bytes, 1)] {
        let (text, is_open) = answered(both.as_bytes(), how);
        let count = |line: &str| text.matches(line).count();
        assert_eq!(count("HTTP/1.1 100 Continue\r\n\r\n"), interim, "{text}");
        assert_eq!(
            (count("HTTP/1.1 200 "), count("HTTP/1.1 ")),
            (2, 2 + interim),
            "{text}"
        );
        assert!(is_open);
    }
}
