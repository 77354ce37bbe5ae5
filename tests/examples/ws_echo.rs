//! Sends back what a WebSocket says: the codec of encke, with nothing of encke around it.
//!
//! ```text
//! cargo run --example ws_echo -- 127.0.0.1:9001
//! ```
//! Takes a WebSocket at any path, and echoes text and binary messages of up to 16 MiB. It is what
//! conformance tests are pointed at. Requests are read, openings checked and frames decoded by the
//! code that the server runs; only the sockets are others, with a thread for each connection.

use encke::buffer::{Full, Writer};
use encke::wire::Refusal;
use encke::wire::request::{Head, HeadScan, Version};
use encke::wire::response::{self, Length, write_head, write_reason};
use encke::wire::websocket::decoder::ROOM_BYTES;
use encke::wire::websocket::handshake::{ACCEPT_FIELDS, accept};
use encke::wire::websocket::session::{Session, Turn};
use encke::wire::websocket::{Opcode, put_frame};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// What is read at once; the room for a message grows with it.
const READ_BYTES: usize = 64 << 10;
/// How long a client may be silent, and how long its last bytes are waited for.
const IDLE: Duration = Duration::from_secs(60);
const LINGER: Duration = Duration::from_secs(1);

/// One connection, from its first byte to its last.
fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(IDLE))?;
    if let Some(frames) = open(&mut socket)? {
        echo(&mut socket, frames)?;
    }
    // Closed with bytes unread, the socket would be reset, and our last frame might get lost.
    socket.shutdown(Shutdown::Write)?;
    socket.set_read_timeout(Some(LINGER))?;
    while socket.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

/// Reads the request and answers it. What came behind it, if a WebSocket is open now.
fn open(socket: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let (mut scan, mut bytes, mut room) = (HeadScan::new(), Vec::new(), [0; 4096]);
    let answer = loop {
        match scan.find(&bytes) {
            Ok(Some(end)) => {
                let rest = bytes.split_off(end);
                break Head::parse(&bytes)
                    .and_then(|head| accept(&head))
                    .map(|accept| (accept, rest));
            }
            Ok(None) => {}
            Err(refusal) => break Err(refusal),
        }
        match socket.read(&mut room)? {
            0 => return Ok(None),
            count => bytes.extend_from_slice(&room[..count]),
        }
    };
    let mut out = Writer::new(&mut room);
    match answer {
        Ok((accept, rest)) => {
            let fields = [ACCEPT_FIELDS, accept.as_str(), "\r\n"];
            write_head(&head(101, Length::None, &fields), &mut out).map_err(no_room)?;
            socket.write_all(out.written())?;
            Ok(Some(rest))
        }
        Err(refusal) => {
            refuse(&refusal, &mut out).map_err(no_room)?;
            socket.write_all(out.written())?;
            Ok(None)
        }
    }
}

fn head<'a>(status: u16, length: Length, fields: &'a [&'a str]) -> response::Head<'a> {
    response::Head {
        status,
        version: Version::Http11,
        date: None,
        content_type: "",
        length,
        keep_alive: status == 101,
        fields,
        cors: "",
    }
}

fn refuse(refusal: &Refusal, out: &mut Writer<'_>) -> Result<(), Full> {
    let mut room = [0; 1024];
    let mut reason = Writer::new(&mut room);
    write_reason(refusal, b"", &mut reason)?;
    let length = Length::Bytes(reason.len());
    write_head(&head(refusal.status, length, &[refusal.fields]), out)?;
    out.put(reason.written())
}

fn no_room(_: Full) -> io::Error {
    io::Error::other("the answer is longer than its buffer")
}

/// Echoes until one side closes; `frames` are bytes that came already.
fn echo(socket: &mut TcpStream, frames: Vec<u8>) -> io::Result<()> {
    let mut session = Session::new(MESSAGE_BYTES_MAX);
    let mut input = frames;
    session.received(input.len());
    input.resize(READ_BYTES.max(input.len() + ROOM_BYTES), 0);
    let mut answers = vec![0; READ_BYTES];
    loop {
        let mut out = Writer::new(&mut answers);
        let turn = session.advance(&mut input, &mut out);
        socket.write_all(out.written())?;
        match turn {
            // There was no room for another answer: there is now.
            Err(Full) => {}
            Ok(Turn::Closed) => return Ok(()),
            Ok(Turn::Message(kind, at)) => {
                let mut room = vec![0; at.len() + 10];
                let mut out = Writer::new(&mut room);
                put_frame(Opcode::Message(kind), &input[at], &mut out).map_err(no_room)?;
                socket.write_all(out.written())?;
            }
            Ok(Turn::More) => {
                if session.spare(&mut input).len() < READ_BYTES / 2 {
                    input.resize(input.len() * 2, 0);
                }
                match socket.read(session.spare(&mut input))? {
                    0 => return Ok(()),
                    count => session.received(count),
                }
            }
        }
    }
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address] = &words[..] else {
        return Err(io::Error::other("usage: ws_echo ADDR:PORT"));
    };
    let listener = TcpListener::bind(address.as_str())?;
    println!("echoing at ws://{}/", listener.local_addr()?);
    for socket in listener.incoming() {
        let socket = socket?;
        thread::spawn(move || {
            // A client that went away is no news.
            let _ = serve(socket);
        });
    }
    Ok(())
}
