//! The real binary with sources that must be told about: programs, standard input, a datagram
//! socket, and both senders of tests/examples. Every wait has a limit.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::live::answer;
use crate::support::command;

#[expect(dead_code, unreachable_pub, reason = "an example has a main")]
#[path = "../examples/send_reading.rs"]
mod send_reading;

/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with a folder of its own, both ended with it. `DIR` in its configuration is the folder.
struct Fed {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

fn folder(name: &str, config: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("encke-feeds-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let config = config.replace("DIR", folder.to_str().unwrap());
    fs::write(folder.join("encke.toml"), config).unwrap();
    folder
}

impl Fed {
    fn start(name: &str, config: &str) -> Fed {
        let folder = folder(name, config);
        let mut child = command(env!("CARGO_BIN_EXE_encke"))
            .args(["serve", "--listen", "127.0.0.1:0", "--sys-root"])
            .arg(&folder)
            .arg("--config")
            .arg(folder.join("encke.toml"))
            // Where programs may write, as a service manager says it.
            .env("RUNTIME_DIRECTORY", &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let address = crate::live::announced(&mut child);
        Fed {
            child,
            address,
            folder,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn ask(&self, path: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let (status, body) = answer(&mut BufReader::new(stream));
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The topic's last event, once it is as wanted.
    fn until(&self, topic: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let (status, event) = self.ask(&format!("/topics/{topic}"));
            if status == 200 && is_wanted(&event) {
                return event;
            }
            assert!(begun.elapsed() < PATIENCE, "{topic}: {status} {event}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_there(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

const PROGRAMS: &str = r#"
[[source]]
kind = "exec"
command = ["sh", "-c", "date +%s; echo 'kitchen/t 21.5'"]
topic = "now"
interval = 0.2
unit = "s"
label = "The time"

[[source]]
kind = "exec"
command = ["sh", "-c", "trap 'echo asked > DIR/end; exit' TERM; echo $$; while :; do sleep 0.1; done"]
topic = "pid"
stream = true

[[source]]
kind = "exec"
command = ["sh", "-c", "echo $$ > DIR/hung; sleep 60"]
topic = "hung"
timeout = 30
"#;

#[test]
fn programs_run_and_end_with_us() {
    let mut fed = Fed::start("programs", PROGRAMS);
    let first = fed.until("now", |event| event["value"].as_u64().is_some());
    fed.until("now", |event| {
        event["value"].as_u64() > first["value"].as_u64()
    });
    let below = fed.until("now/kitchen/t", |event| event["value"] == json!(21.5));
    assert_eq!(below.get("state"), None);
    let (_, list) = fed.ask("/topics");
    let list = list["topics"].as_array().unwrap();
    let now = list
        .iter()
        .find(|topic| topic["event"]["topic"] == "now")
        .unwrap();
    assert_eq!(
        (&now["label"], &now["unit"]),
        (&json!("The time"), &json!("s"))
    );

    let pid = fed.until("pid", |_| true)["value"].as_u64().unwrap();
    let leader = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(leader, rustix::process::Signal::KILL).unwrap();
    let stale = fed.until("pid", |event| event["state"] == "stale");
    assert_eq!(stale["value"], pid, "its value stays");
    let again = fed.until("pid", |event| event.get("state").is_none());
    let again = again["value"].as_u64().unwrap();
    assert!(again != pid && is_there(again) && !is_there(pid));

    let hung = fs::read_to_string(fed.path("hung")).unwrap();
    let hung = hung.trim().parse().unwrap();
    assert!(is_there(hung));
    assert_eq!(fed.terminate(), Some(0));
    assert!(!is_there(again) && !is_there(hung));
    assert_eq!(fs::read_to_string(fed.path("end")).unwrap(), "asked\n");
}

#[test]
fn ten_thousand_lines_through_standard_input() {
    const LINES: usize = 10_000;
    let config = "[[source]]\nkind = \"stdin\"\ntopic = \"t\"\n[sources]\ninclude = [\"t\"]\n";
    let mut fed = Fed::start("stdin", config);
    let mut input = fed.child.stdin.take().unwrap();
    let sender = std::thread::spawn(move || {
        for at in 0..LINES {
            writeln!(input, "{at}").unwrap();
        }
    });
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    // One event for each line, and the last that says that its sender is gone.
    let last = loop {
        let asked = Instant::now();
        let (status, list) = fed.ask("/topics");
        slowest = slowest.max(asked.elapsed());
        let id = list["id"].as_str().unwrap().split_once('-').unwrap().1;
        let seq: usize = id.parse().unwrap();
        assert_eq!(status, 200);
        if seq > LINES || begun.elapsed() > PATIENCE {
            break seq;
        }
    };
    sender.join().unwrap();
    assert_eq!(last, LINES + 1);
    assert!(
        slowest < Duration::from_secs(2),
        "an answer took {slowest:?}"
    );
    assert_eq!(fed.ask("/topics/t").0, 404);
    println!(
        "{LINES} lines in {:?}, the slowest answer {slowest:?}",
        begun.elapsed()
    );
}

const SOCKETS: &str = r#"
[[source]]
kind = "datagram"
path = "DIR/frames"
format = "postcard"
mode = "0600"

[[source]]
kind = "datagram"
path = "DIR/lines"
topic = "room"
mode = "0622"

[[source]]
kind = "stdin"
format = "postcard"
stale = 1
"#;

#[test]
fn both_senders_reach_the_sockets() {
    let mut fed = Fed::start("sockets", SOCKETS);
    let [frames, lines] = ["frames", "lines"].map(|name| fed.path(name));
    let begun = Instant::now();
    while fs::symlink_metadata(&lines).is_err() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    for (path, mode) in [(&frames, 0o600), (&lines, 0o622)] {
        let found = fs::symlink_metadata(path).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode);
    }
    for (topic, word, want) in [
        ("r/int", "-40", json!(-40)),
        ("r/float", "21.5", json!(21.5)),
        ("r/yes", "true", json!(true)),
        ("r/null", "null", json!(null)),
        ("r/text", "caf\u{e9}", json!("caf\u{e9}")),
    ] {
        send_reading::send(&frames, topic, word).unwrap();
        assert_eq!(fed.until(topic, |_| true)["value"], want);
    }
    assert!(send_reading::send(&frames, "long", &"x".repeat(600)).is_err());

    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/examples/send_reading.py"
    );
    let python = |words: &[&str]| Command::new("python3").arg(script).args(words).output();
    if python(&[]).is_err() {
        println!("there is no python3: send_reading.py was not tried");
    } else {
        for (words, topic, want) in [
            (
                &["--postcard", &frames, "p/int", "-40"][..],
                "p/int",
                json!(-40),
            ),
            (
                &["--postcard", &frames, "p/float", "2.5e-3"],
                "p/float",
                json!(0.0025),
            ),
            (
                &["--postcard", &frames, "p/yes", "false"],
                "p/yes",
                json!(false),
            ),
            (
                &["--postcard", &frames, "p/text", "open"],
                "p/text",
                json!("open"),
            ),
            (&[&lines, "p/float", "21.50"], "room/p/float", json!(21.5)),
            (
                &[&lines, "p/text", "caf\u{e9} au lait"],
                "room/p/text",
                json!("caf\u{e9} au lait"),
            ),
        ] {
            let output = python(words).unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(fed.until(topic, |_| true)["value"], want);
        }
        // The same bytes from both, whatever the lengths of COBS blocks.
        for length in [0, 1, 240, 243, 244, 245, 246, 247, 400, 490] {
            let text = "x".repeat(length);
            let mut room = [0; 513];
            let value = send_reading::Value::Text(&text);
            let reading = send_reading::Reading { topic: "a", value };
            let length = send_reading::frame(&reading, &mut room).unwrap();
            let output = python(&["--postcard", "-", "a", &text]).unwrap();
            assert_eq!(output.stdout, &room[..length]);
        }
        let output = python(&["--postcard", &frames, "long", &"x".repeat(600)]).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("bytes; at most 512 are taken"), "{said}");
    }

    let mut room = [0; 513];
    let value = send_reading::Value::Single(21.3);
    let reading = send_reading::Reading { topic: "s", value };
    let length = send_reading::frame(&reading, &mut room).unwrap();
    let mut input = fed.child.stdin.take().unwrap();
    input
        .write_all(&[b"\0noise\0", &room[..length]].concat())
        .unwrap();
    assert_eq!(fed.until("s", |_| true)["value"], json!(21.3));
    let begun = Instant::now();
    fed.until("s", |event| event["state"] == "stale");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(input);
    assert_eq!(fed.terminate(), Some(0));
    assert!(
        fs::symlink_metadata(&frames).is_err(),
        "a socket goes with its server"
    );
}

#[test]
fn a_list_of_sensors_has_what_programs_print() {
    let folder = folder("list", PROGRAMS);
    let begun = Instant::now();
    let output = command(env!("CARGO_BIN_EXE_encke"))
        .args(["sensors", "--sys-root"])
        .arg(&folder)
        .arg("--config")
        .arg(folder.join("encke.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let row = |topic: &str| {
        said.lines()
            .find(|line| line.split(' ').next() == Some(topic))
    };
    assert!(row("now").unwrap().contains("The time"), "{said}");
    assert!(row("now/kitchen/t").unwrap().contains("21.5"), "{said}");
    assert!(row("hung").unwrap().contains("stale"), "{said}");
    assert!(begun.elapsed() < PATIENCE);
    let hung = fs::read_to_string(folder.join("hung")).unwrap();
    assert!(!is_there(hung.trim().parse().unwrap()));
    fs::remove_dir_all(&folder).unwrap();
}
