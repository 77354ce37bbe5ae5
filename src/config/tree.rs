//! TOML text made a small tree in which every key and value knows its place.
//!
//! Follows TOML 1.0 on what may be said twice: a `[table]` once, `[[rows]]` as often as wanted,
//! and what stands between braces or brackets is complete. Syntax and escapes are `toml_parser`'s.
//! It never knows which keys there are, and never nests deeper than `DEPTH_MAX`.

use std::borrow::Cow;
use std::mem::take;
use std::ops::Range;

use toml_parser::decoder::{Encoding, ScalarKind};
use toml_parser::parser::{EventReceiver, parse_document};
use toml_parser::{ErrorSink, ParseError, Source, Span};

use super::error::Fault;

/// Keys joined by dots, and brackets in brackets. Above: a fault. The schema needs three.
const DEPTH_MAX: usize = 8;

/// A value and where it stands.
pub(super) struct Item<'a> {
    pub(super) span: Range<usize>,
    pub(super) given: Given<'a>,
}

/// A value as the file gives it.
pub(super) enum Given<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    /// A date, a time or both, as it stands: not checked.
    Date(Cow<'a, str>),
    List(Vec<Item<'a>>),
    Table(Table<'a>),
    /// The tables of all `[[name]]` of one name.
    Rows(Vec<Item<'a>>),
}

/// Keys with their values, in file order.
pub(super) struct Table<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    made: Made,
}

pub(super) struct Entry<'a> {
    pub(super) key: Key<'a>,
    pub(super) item: Item<'a>,
}

pub(super) struct Key<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) span: Range<usize>,
}

/// What made a table, which decides what may add to it.
#[derive(Clone, Copy, PartialEq)]
enum Made {
    /// `[a.b]` makes `a`: a later `[a]` may fill it.
    OnTheWay,
    /// `[a]` or `[[a]]`.
    Header,
    /// `a.b = 1` makes `a`.
    Dots,
    /// `{ ... }`: nothing may add to it.
    Braces,
}

/// The tree of a TOML `text`, or its first fault.
pub(super) fn parse(text: &str) -> Result<Table<'_>, Fault> {
    let mut builder = Builder {
        text,
        root: Table::new(Made::Header),
        header: Vec::new(),
        header_at: 0,
        is_row: false,
        path: Vec::new(),
        open: Vec::new(),
    };
    let mut fault: Option<ParseError> = None;
    let tokens = Source::new(text).lex().into_vec();
    parse_document(&tokens, &mut builder, &mut fault);
    match fault {
        Some(fault) => Err(Fault::from(fault)),
        None => Ok(builder.root),
    }
}

impl<'a> Table<'a> {
    fn new(made: Made) -> Table<'a> {
        Table {
            entries: Vec::new(),
            made,
        }
    }

    /// The entry called `name`.
    pub(super) fn find(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.key.name == name)
    }

    /// The table called `key`, made when it is missing. `None` when it is no table that a path of
    /// this kind, `OnTheWay` or `Dots`, may go through.
    fn below(&mut self, key: Key<'a>, kind: Made) -> Option<&mut Table<'a>> {
        let found = self.entries.iter().position(|e| e.key.name == key.name);
        let at = found.unwrap_or(self.entries.len());
        if found.is_none() {
            let span = key.span.clone();
            let given = Given::Table(Table::new(kind));
            let item = Item { span, given };
            self.entries.push(Entry { key, item });
        }
        let passes = |made| match kind {
            Made::Dots => made == Made::Dots,
            _ => made != Made::Braces,
        };
        match &mut self.entries[at].item.given {
            Given::Table(table) if passes(table.made) => Some(table),
            Given::Rows(rows) if kind == Made::OnTheWay => rows.last_mut().and_then(Item::table),
            _ => None,
        }
    }

    /// Adds the value at the end of `path`, whose first key is in this table.
    fn add(&mut self, path: Vec<Key<'a>>, item: Item<'a>, error: &mut dyn ErrorSink) {
        let count = path.len();
        let mut table = self;
        for (i, key) in path.into_iter().enumerate() {
            let span = key.span.clone();
            if i + 1 == count {
                if table.find(&key.name).is_some() {
                    return twice(span, error);
                }
                return table.entries.push(Entry { key, item });
            }
            table = match table.below(key, Made::Dots) {
                Some(table) => table,
                None => return twice(span, error),
            };
        }
    }

    /// Opens the table `[key]`, or with `is_row` another row of `[[key]]`.
    fn open(&mut self, key: Key<'a>, span: Range<usize>, is_row: bool, error: &mut dyn ErrorSink) {
        let given = Given::Table(Table::new(Made::Header));
        let item = Item { span, given };
        let same = self.entries.iter_mut().find(|e| e.key.name == key.name);
        match (same.map(|entry| &mut entry.item.given), is_row) {
            (None, false) => self.entries.push(Entry { key, item }),
            (None, true) => {
                let span = item.span.clone();
                let given = Given::Rows(vec![item]);
                let item = Item { span, given };
                self.entries.push(Entry { key, item });
            }
            (Some(Given::Rows(rows)), true) => rows.push(item),
            (Some(Given::Table(table)), false) if table.made == Made::OnTheWay => {
                table.made = Made::Header;
            }
            _ => twice(key.span, error),
        }
    }
}

impl<'a> Item<'a> {
    fn table(&mut self) -> Option<&mut Table<'a>> {
        match &mut self.given {
            Given::Table(table) => Some(table),
            _ => None,
        }
    }
}

fn twice(key: Range<usize>, error: &mut dyn ErrorSink) {
    let key = Span::new_unchecked(key.start, key.end);
    error.report_error(ParseError::new("duplicate key").with_unexpected(key));
}

fn range(span: Span) -> Range<usize> {
    span.start()..span.end()
}

/// Makes the tree of the parser's events. After the first fault, events may come in any order, and
/// what is made of them is thrown away.
struct Builder<'a> {
    text: &'a str,
    root: Table<'a>,
    /// Names of the table that keys go to.
    header: Vec<Cow<'a, str>>,
    header_at: usize,
    is_row: bool,
    /// Keys read, whose header or value has not come yet.
    path: Vec<Key<'a>>,
    /// Lists and tables whose bracket is not closed yet, each with the path it will stand at.
    open: Vec<(Vec<Key<'a>>, Item<'a>)>,
}

impl<'a> Builder<'a> {
    fn raw(&self, span: Span, encoding: Option<Encoding>) -> toml_parser::Raw<'a> {
        let text = self.text.get(range(span)).unwrap_or_default();
        toml_parser::Raw::new_unchecked(text, encoding, span)
    }

    fn header_opens(&mut self, span: Span, is_row: bool) {
        self.path.clear();
        self.header_at = span.start();
        self.is_row = is_row;
    }

    fn header_closes(&mut self, close: Span, error: &mut dyn ErrorSink) {
        let mut parents = take(&mut self.path);
        self.header = parents.iter().map(|key| key.name.clone()).collect();
        let Some(key) = parents.pop() else {
            return;
        };
        let mut table = &mut self.root;
        for parent in parents {
            let span = parent.span.clone();
            table = match table.below(parent, Made::OnTheWay) {
                Some(table) => table,
                None => return twice(span, error),
            };
        }
        table.open(key, self.header_at..close.end(), self.is_row, error);
    }

    /// The table of the last header.
    fn current(&mut self) -> Option<&mut Table<'a>> {
        let mut table = &mut self.root;
        for name in &self.header {
            let mut entries = table.entries.iter_mut();
            let entry = entries.find(|entry| entry.key.name == *name)?;
            table = match &mut entry.item.given {
                Given::Table(table) => table,
                Given::Rows(rows) => rows.last_mut()?.table()?,
                _ => return None,
            };
        }
        Some(table)
    }

    fn put(&mut self, path: Vec<Key<'a>>, item: Item<'a>, error: &mut dyn ErrorSink) {
        match self.open.last_mut().map(|(_, open)| &mut open.given) {
            Some(Given::List(items)) => items.push(item),
            Some(Given::Table(table)) => table.add(path, item, error),
            _ => {
                if let Some(table) = self.current() {
                    table.add(path, item, error);
                }
            }
        }
    }

    fn bracket_opens(&mut self, span: Span, given: Given<'a>, error: &mut dyn ErrorSink) -> bool {
        if self.open.len() == DEPTH_MAX {
            let problem = format!("more than {DEPTH_MAX} brackets in each other");
            error.report_error(ParseError::new(problem).with_unexpected(span));
            return false;
        }
        let span = range(span);
        self.open.push((take(&mut self.path), Item { span, given }));
        true
    }

    fn bracket_closes(&mut self, span: Span, error: &mut dyn ErrorSink) {
        if let Some((path, mut item)) = self.open.pop() {
            item.span.end = span.end();
            self.put(path, item, error);
        }
    }
}

impl EventReceiver for Builder<'_> {
    fn std_table_open(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        self.header_opens(span, false);
    }

    fn std_table_close(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.header_closes(span, error);
    }

    fn array_table_open(&mut self, span: Span, _error: &mut dyn ErrorSink) {
        self.header_opens(span, true);
    }

    fn array_table_close(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.header_closes(span, error);
    }

    fn inline_table_open(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        self.bracket_opens(span, Given::Table(Table::new(Made::Braces)), error)
    }

    fn inline_table_close(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.bracket_closes(span, error);
    }

    fn array_open(&mut self, span: Span, error: &mut dyn ErrorSink) -> bool {
        self.bracket_opens(span, Given::List(Vec::new()), error)
    }

    fn array_close(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.bracket_closes(span, error);
    }

    fn simple_key(&mut self, span: Span, kind: Option<Encoding>, error: &mut dyn ErrorSink) {
        if self.path.len() == DEPTH_MAX {
            let problem = format!("more than {DEPTH_MAX} keys joined by dots");
            return error.report_error(ParseError::new(problem).with_unexpected(span));
        }
        let mut name = Cow::Borrowed("");
        self.raw(span, kind).decode_key(&mut name, error);
        let span = range(span);
        self.path.push(Key { name, span });
    }

    fn scalar(&mut self, span: Span, kind: Option<Encoding>, error: &mut dyn ErrorSink) {
        let mut text = Cow::Borrowed("");
        let kind = self.raw(span, kind).decode_scalar(&mut text, error);
        let given = match kind {
            ScalarKind::String => Some(Given::Text(text)),
            ScalarKind::Boolean(value) => Some(Given::Bool(value)),
            ScalarKind::DateTime => Some(Given::Date(text)),
            ScalarKind::Integer(radix) => i64::from_str_radix(&text, radix.value())
                .ok()
                .map(Given::Int),
            ScalarKind::Float => text.parse().ok().map(Given::Float),
        };
        let Some(given) = given else {
            let problem = ParseError::new("a number beyond 64 bits");
            return error.report_error(problem.with_unexpected(span));
        };
        let span = range(span);
        let path = take(&mut self.path);
        self.put(path, Item { span, given }, error);
    }

    fn comment(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.raw(span, None).decode_comment(error);
    }

    fn newline(&mut self, span: Span, error: &mut dyn ErrorSink) {
        self.raw(span, None).decode_newline(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as text, or `LINE-COLUMN...`'s start and end, and what is wrong.
    fn shown(text: &str) -> String {
        fn table(table: &Table) -> String {
            let entries = table.entries.iter();
            let all: Vec<String> = entries
                .map(|entry| format!("{}: {}", entry.key.name, item(&entry.item)))
                .collect();
            format!("{{{}}}", all.join(", "))
        }
        fn items(items: &[Item]) -> String {
            items.iter().map(item).collect::<Vec<_>>().join(", ")
        }
        fn item(at: &Item) -> String {
            match &at.given {
                Given::Bool(value) => value.to_string(),
                Given::Int(value) => value.to_string(),
                Given::Float(value) => format!("{value:?}"),
                Given::Text(text) => format!("{text:?}"),
                Given::Date(text) => text.to_string(),
                Given::List(list) => format!("[{}]", items(list)),
                Given::Rows(rows) => format!("[[{}]]", items(rows)),
                Given::Table(below) => table(below),
            }
        }
        match parse(text) {
            Ok(root) => table(&root),
            Err(fault) => {
                let layer = super::super::Layer {
                    file: "",
                    text,
                    is_profile: false,
                };
                let error = fault.at(&layer);
                let at = error.place.unwrap();
                format!("{}:{} {}", at.line, at.column, error.problem)
            }
        }
    }

    #[test]
    fn values() {
        for (text, want) in [
            ("", "{}"),
            ("# a\n\r\n", "{}"),
            ("a = true\nb=false", "{a: true, b: false}"),
            (
                "a = [-1, 0x1F, 0o17, 0b11, 1_000, +7]",
                "{a: [-1, 31, 15, 3, 1000, 7]}",
            ),
            (
                "a = [1.5, -2e3, inf, -inf, nan]",
                "{a: [1.5, -2000.0, inf, -inf, NaN]}",
            ),
            (
                "a = [9223372036854775807, -9223372036854775808]",
                "{a: [9223372036854775807, -9223372036854775808]}",
            ),
            ("a = 9223372036854775808", "1:5 a number beyond 64 bits"),
            ("a = 1979-05-27T07:32:00Z", "{a: 1979-05-27T07:32:00Z}"),
            ("a = \"\\t\\u00e9\\\"\"", "{a: \"\\té\\\"\"}"),
            ("a = '\\t'", "{a: \"\\\\t\"}"),
            ("a = \"\"\"\nb\\\n  c\"\"\"", "{a: \"bc\"}"),
            ("a = [\n1, # b\n[],\n{ b = 1 },\n]", "{a: [1, [], {b: 1}]}"),
            (
                "\"a b\" = 1\n'' = 2\n\"\\u0063\" = 3",
                "{a b: 1, : 2, c: 3}",
            ),
            ("a =\nb = 1", "1:4 missing value"),
            ("a = word", "1:5 string values must be quoted"),
            ("a = ", "1:5 missing value"),
            ("a = \"\\q\"", "1:7 missing escaped value"),
            ("a = 01", "1:5 unexpected leading zero"),
            ("# \u{1}", "1:3 invalid comment character"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn what_may_be_said_twice() {
        for (text, want) in [
            ("[a]\nb = 1\n[c]\n[a.d]", "{a: {b: 1, d: {}}, c: {}}"),
            ("[a.b]\n[a]\nc = 1", "{a: {b: {}, c: 1}}"),
            ("a.b = 1\na.c = 2", "{a: {b: 1, c: 2}}"),
            (
                "a.b.c = 1\n[a.b.d]\n[a.e]",
                "{a: {b: {c: 1, d: {}}, e: {}}}",
            ),
            (
                "[[a]]\nb = 1\n[[a]]\n[a.c]\nd = 2",
                "{a: [[{b: 1}, {c: {d: 2}}]]}",
            ),
            (
                "[[a]]\n[[a.b]]\n[[a.b]]\nc = 1",
                "{a: [[{b: [[{}, {c: 1}]]}]]}",
            ),
            ("a = { b.c = 1, b.d = 2 }", "{a: {b: {c: 1, d: 2}}}"),
            ("a = 1\na = 2", "2:1 duplicate key"),
            ("a = 1\n\"\\u0061\" = 2", "2:1 duplicate key"),
            ("[a]\n[a]", "2:2 duplicate key"),
            ("[a]\nb = 1\n[a.b]", "3:4 duplicate key"),
            ("[a]\nb = 1\n[a.b.c]", "3:4 duplicate key"),
            ("a = 1\n[a]", "2:2 duplicate key"),
            ("a = {}\n[a]", "2:2 duplicate key"),
            ("a = {}\n[a.b]", "2:2 duplicate key"),
            ("a = {}\na.b = 1", "2:1 duplicate key"),
            ("a = { b = 1, b = 2 }", "1:14 duplicate key"),
            ("a = { b = 1, b.c = 2 }", "1:14 duplicate key"),
            ("a.b = 1\n[a]", "2:2 duplicate key"),
            ("[a.b]\n[a]\nb.c = 1", "3:1 duplicate key"),
            ("a = []\n[[a]]", "2:3 duplicate key"),
            ("a = [{}]\n[a.b]", "2:2 duplicate key"),
            ("[a]\n[[a]]", "2:3 duplicate key"),
            ("[[a]]\n[a]", "2:2 duplicate key"),
            ("[a]\nb = 1\nb.c = 2", "3:1 duplicate key"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn depth_at_and_above() {
        let brackets = |count| format!("a = {}{}", "[".repeat(count), "]".repeat(count));
        assert!(parse(&brackets(DEPTH_MAX)).is_ok());
        let above = shown(&brackets(DEPTH_MAX + 1));
        assert_eq!(above, "1:13 more than 8 brackets in each other");
        assert!(shown(&"a=[{".repeat(100_000)).contains("more than 8 brackets"));
        let dots = |count| vec!["a"; count].join(".");
        for form in [
            |path: String| format!("{path} = 1"),
            |path: String| format!("[{path}]"),
        ] {
            assert!(parse(&form(dots(DEPTH_MAX))).is_ok());
            let above = shown(&form(dots(100_000)));
            assert!(
                above.ends_with("more than 8 keys joined by dots"),
                "{above}"
            );
        }
    }
}
