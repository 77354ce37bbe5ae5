//! The real binary on a board that this test makes of files: what its sensors become for a viewer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::live::Live;

/// A system root of this test's own.
struct Board(PathBuf);

impl Board {
    fn new(name: &str) -> Board {
        let root = std::env::temp_dir().join(format!("encke-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Board(root)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A chip on the bus, with the class link that the kernel makes.
    fn bind(&self) {
        let device = "sys/devices/i2c-1/1-0048/hwmon/hwmon3";
        for (name, text) in [
            ("name", "tmp105\n"),
            ("temp1_input", "21500\n"),
            ("temp1_max", "80000\n"),
            ("temp1_max_hyst", "75000\n"),
        ] {
            self.write(&format!("{device}/{name}"), text);
        }
        let class = self.0.join("sys/class/hwmon");
        fs::create_dir_all(&class).unwrap();
        let link = class.join("hwmon3");
        std::os::unix::fs::symlink(self.0.join(device), link).unwrap();
    }

    fn unbind(&self) {
        fs::remove_file(self.0.join("sys/class/hwmon/hwmon3")).unwrap();
        fs::remove_dir_all(self.0.join("sys/devices/i2c-1/1-0048")).unwrap();
    }

    fn start(&self, config: &str) -> Live {
        self.write("encke.toml", config);
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (root, config) = (path(&self.0), path(&self.0.join("encke.toml")));
        Live::start(&["--sys-root", &root, "--config", &config])
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn topics(live: &Live) -> Vec<Value> {
    let mut stream = live.connect();
    stream
        .write_all(b"GET /topics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let mut list: Value = serde_json::from_str(body).unwrap();
    serde_json::from_value(list["topics"].take()).unwrap()
}

fn topic(live: &Live, name: &str) -> Option<Value> {
    topics(live)
        .into_iter()
        .find(|topic| topic["event"]["topic"] == name)
}

/// The topic once it is listed; sources are read after the server answers.
fn topic_soon(live: &Live, name: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(topic) = topic(live, name) {
            return topic;
        }
        assert!(
            Instant::now() < until,
            "{name} is not in {:?}",
            topics(live)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A stream of one topic's events, hello and heartbeats left out.
struct Events(BufReader<std::net::TcpStream>);

impl Events {
    fn of(live: &Live, topic: &str) -> Events {
        let mut stream = live.connect();
        let head = format!("GET /events/stream?topics={topic} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Events(reader)
    }

    /// The next event whose value or state is not that of `before`.
    fn change(&mut self, before: &Value) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended");
            let event: Value = serde_json::from_str(&line).unwrap();
            let is_new = event["value"] != before["value"] || event["state"] != before["state"];
            if event.get("topic").is_some() && is_new {
                return event;
            }
        }
    }
}

#[test]
fn a_sensor_is_listed_changes_goes_and_comes_back() {
    let board = Board::new("sensors");
    board.bind();
    let live = board.start("");
    let name = "hwmon/tmp105/temp1";
    let listed = topic_soon(&live, name);
    assert_eq!(listed["event"]["value"], json!(21.5));
    assert_eq!(listed["unit"], "\u{b0}C");
    assert_eq!(listed["limits"]["max"], json!(80));
    let mut events = Events::of(&live, name);
    let mut event = events.change(&Value::Null);
    assert_eq!(event["value"], json!(21.5));
    board.write(
        "sys/devices/i2c-1/1-0048/hwmon/hwmon3/temp1_input",
        "-5250\n",
    );
    event = events.change(&event);
    assert_eq!((&event["value"], event.get("state")), (&json!(-5.2), None));
    board.unbind();
    event = events.change(&event);
    assert_eq!(
        (&event["value"], &event["state"]),
        (&json!(-5.2), &json!("gone"))
    );
    assert_eq!(topic(&live, name), None);
    board.bind();
    event = events.change(&event);
    assert_eq!((&event["value"], event.get("state")), (&json!(21.5), None));
    assert_eq!(topic_soon(&live, name)["unit"], "\u{b0}C");
}

#[test]
fn rules_change_what_is_seen() {
    let board = Board::new("rules");
    board.bind();
    let live = board.start(
        "[[topic]]\nmatch = \"hwmon/tmp105/temp1\"\nrename = \"shed/temperature\"\nlabel = \"Shed\"\n\
         unit = \"\u{b0}F\"\nscale = 1.8\noffset = 32\nround = 0\n\
         [[topic]]\nmatch = \"garden/#\"\nlabel = \"Garden\"\nunit = \"lx\"\n",
    );
    let shed = topic_soon(&live, "shed/temperature");
    assert_eq!(shed["event"]["value"], json!(71));
    assert_eq!(
        (&shed["label"], &shed["unit"]),
        (&json!("Shed"), &json!("\u{b0}F"))
    );
    assert_eq!(shed["limits"]["max"], json!(176));
    assert_eq!(topic(&live, "hwmon/tmp105/temp1"), None);
    let mut stream = live.connect();
    stream
        .write_all(b"POST /topics/garden/light HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n840")
        .unwrap();
    let (status, _) = crate::live::answer(&mut BufReader::new(stream));
    assert_eq!(status, 200);
    let light = topic_soon(&live, "garden/light");
    assert_eq!(
        (&light["label"], &light["unit"]),
        (&json!("Garden"), &json!("lx"))
    );
}
