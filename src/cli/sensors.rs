//! `encke sensors`: every reading as a table, once into a pipe, live on a terminal.
//!
//! Follows ECMA-48 for the three sequences that it draws with. It publishes nothing, and what only
//! one program can have at a time (stdin, sockets, programs that run for ever) it leaves to the
//! server.

use crate::by_name::ByName;
use crate::clock::boot_ms;
use crate::config::{Config, SourceEntry};
use crate::hub::event::State;
use crate::source::{self, About, Sink};
use async_io::Timer;
use rustix::termios::tcgetwinsize;
use smol::LocalExecutor;
use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// How long slow sensors may take to be in a list.
const PATIENCE: Duration = Duration::from_secs(5);
const REDRAW: Duration = Duration::from_secs(1);
/// The cursor to the first place; the rest of a line away; the rest of the screen away.
const HOME: &str = "\x1b[H";
const LINE_END: &str = "\x1b[K\n";
const SCREEN_END: &str = "\x1b[J";

/// Every reading once, a line each: topic, value, unit, state, kind, label.
///
/// # Errors
/// Of `out`.
pub fn list(config: &Config, sys_root: &Path, out: &mut impl Write) -> io::Result<()> {
    for reading in source::snapshot(config, sys_root, PATIENCE) {
        let source::Snapshot {
            topic,
            value,
            unit,
            state,
            label,
            kind,
        } = reading;
        let state = state.word();
        writeln!(
            out,
            "{topic:32} {value:>14} {unit:6} {state:6} {kind:8} {label}"
        )?;
    }
    Ok(())
}

/// Draws every reading again and again on a terminal until the program is ended.
///
/// # Errors
/// Of `out`.
pub fn live(config: &Config, sys_root: &Path, out: &mut (impl Write + AsFd)) -> io::Result<()> {
    let mut config = config.clone();
    config
        .source
        .retain(|entry| matches!(entry, SourceEntry::Exec(exec) if exec.interval_ms.is_some()));
    let table = Rc::new(Table::default());
    let executor = LocalExecutor::new();
    let _sources = source::start(&executor, &config, sys_root, table.clone());
    write!(out, "{HOME}{SCREEN_END}")?;
    smol::block_on(executor.run(async {
        loop {
            Timer::after(REDRAW).await;
            let lines = tcgetwinsize(out.as_fd()).map_or(u16::MAX, |size| size.ws_row);
            table.draw(boot_ms(), lines.max(2).into(), out)?;
        }
    }))
}

/// The newest of each topic.
#[derive(Default)]
struct Table(RefCell<ByName<Row>>);

#[derive(Default)]
struct Row {
    about: About,
    value: String,
    state: State,
    told_ms: u64,
}

impl Sink for Table {
    fn publish(&self, topic: &str, value: &str, state: State) {
        let mut rows = self.0.borrow_mut();
        let row = rows.find_or_add(topic, Row::default);
        value.clone_into(&mut row.value);
        row.state = state;
        row.told_ms = boot_ms();
    }

    fn describe(&self, topic: &str, about: &About) {
        let mut rows = self.0.borrow_mut();
        rows.find_or_add(topic, Row::default).about = about.clone();
    }
}

impl Table {
    /// Draws at most `lines` lines, the last of which says how many are left out.
    fn draw(&self, now_ms: u64, lines: usize, out: &mut impl Write) -> io::Result<()> {
        let rows = self.0.borrow();
        let width = rows.iter().map(|(topic, _)| topic.len()).max().unwrap_or(0);
        write!(out, "{HOME}")?;
        for (topic, row) in rows.iter().take(lines - 1) {
            let About { label, unit, .. } = &row.about;
            let state = match row.state {
                State::Ok => "",
                state => state.word(),
            };
            let age_s = now_ms.saturating_sub(row.told_ms) / 1000;
            let value = &row.value;
            write!(
                out,
                "{topic:width$} {value:>10} {unit:5} {age_s:>3} s {state:5} {label}{LINE_END}"
            )?;
        }
        let more = rows.len().saturating_sub(lines - 1);
        if more > 0 {
            write!(out, "and {more} more: encke sensors | less")?;
        }
        write!(out, "{SCREEN_END}")?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_the_newest_of_each_topic() {
        let table = Table::default();
        let about = About {
            label: "A".to_string(),
            unit: "V".to_string(),
            ..About::default()
        };
        table.describe("b/a", &about);
        table.publish("b/a", "1", State::Ok);
        table.publish("b/a", "2.5", State::Stale);
        table.publish("a/z", "\"x\"", State::Ok);
        let mut out = Vec::new();
        table.draw(boot_ms() + 7000, 3, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<String> = text
            .split('\n')
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "\x1b[Ha/z \"x\" 7 s \x1b[K",
                "b/a 2.5 V 7 s stale A\x1b[K",
                "\x1b[J"
            ]
        );
        let mut out = Vec::new();
        table.draw(boot_ms(), 2, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("\nand 1 more: encke sensors | less\x1b[J"),
            "{text}"
        );
        assert!(!text.contains("b/a"));
    }
}
