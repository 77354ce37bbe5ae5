//! What the running server gives up: everything that its configuration does not need, by landlock.
//!
//! Follows landlock(7) and the kernel's userspace-api/landlock, up to ABI 7. A thread is confined
//! for ever, and with it every thread and program that it starts later; so this is called once,
//! when all addresses are listened at and before there is a second thread. What is open already
//! stays open, and what a kernel does not know it does not forbid: a kernel or an emulator without
//! landlock is spoken of, and nothing else happens. It never keeps the server from starting.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, make_bitflags,
};

use crate::config::{self, Config, SourceEntry};
use crate::log;

/// The newest rules that were tried out. Later ones may forbid what is needed.
const KNOWN: ABI = ABI::V7;
/// Folders that the service manager made for us to write in (systemd.exec(5)), and where programs
/// put what they need for a moment.
const WRITABLE: [&str; 5] = [
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "LOGS_DIRECTORY",
    "TMPDIR",
];

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// Sensors: files, and which there are.
    Look,
    /// Files whose names are known.
    Read,
    /// Whatever programs read and run.
    Run,
    /// A file of the kernel that is there already.
    Switch,
    /// Sockets with a name.
    Socket,
    /// Devices: writing and commands, but no new ones.
    Device,
    /// Files and folders of one's own.
    Write,
}

impl Right {
    fn access(self) -> BitFlags<AccessFs> {
        match self {
            Right::Look => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
            Right::Read => AccessFs::ReadFile.into(),
            Right::Run => AccessFs::from_read(KNOWN),
            Right::Switch => AccessFs::WriteFile.into(),
            Right::Socket => make_bitflags!(AccessFs::{MakeSock | RemoveFile}),
            Right::Device => make_bitflags!(AccessFs::{WriteFile | Truncate | IoctlDev}),
            Right::Write => {
                AccessFs::from_write(KNOWN)
                    & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev})
            }
        }
    }
}

/// What is said of rights, and which.
const WORDS: [(&str, &[Right]); 3] = [
    ("reads", &[Right::Look, Right::Read, Right::Run]),
    (
        "writes",
        &[Right::Switch, Right::Socket, Right::Device, Right::Write],
    ),
    ("runs", &[Right::Run]),
];

/// Everything that stays allowed.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    /// Sorted, each once. What is not there when it is to be allowed is left out.
    paths: Vec<(Right, PathBuf)>,
    /// Whether TCP sockets may be bound and connected; those that listen already go on.
    tcp: bool,
    scopes: BitFlags<Scope>,
}

/// Tells a variable of the environment.
type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Gives up what `config` does not need, and says in one line what is left. `named` is the file of
/// --config, `sys_root` where the sensors are. Whatever else a changed configuration would need, it
/// gets when the server is started again.
pub fn confine(config: &Config, named: Option<&Path>, sys_root: &Path) {
    let rules = Rules::new(config, named, sys_root, &|name| std::env::var_os(name));
    match rules.enforce() {
        Ok(RestrictionStatus {
            ruleset, landlock, ..
        }) => match (ruleset, landlock) {
            (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => log::notice(format_args!(
                "not confined: landlock is off; lsm= of the kernel's command line can have it"
            )),
            (RulesetStatus::NotEnforced, _) => log::notice(format_args!(
                "not confined: no landlock here (an old kernel, an emulator, or a filter)"
            )),
            (_, landlock) => log::info(format_args!("{}", rules.told(landlock.into()))),
        },
        Err(_) => log::warning(format_args!(
            // What failed was a system call; all that the crate could say of it is 2 KB long.
            "not confined: landlock: {}",
            io::Error::last_os_error()
        )),
    }
}

/// What sources may do for as long as we run: it follows from the configuration at the start.
#[derive(Debug)]
pub struct Room {
    runs: bool,
    /// Where sockets may be made.
    folders: Vec<PathBuf>,
}

impl Room {
    /// For a server that is confined by this configuration.
    pub fn new(config: &Config) -> Room {
        let sockets = config.source.iter().filter_map(socket);
        Room {
            runs: config.source.iter().any(runs),
            folders: sockets.map(|(_, folder)| folder).collect(),
        }
    }

    /// Whether the sources of another configuration may do what they do.
    pub fn has(&self, config: &Config) -> bool {
        let mut sockets = config.source.iter().filter_map(socket);
        let is_within = |path: &Path| self.folders.iter().any(|folder| path.starts_with(folder));
        (self.runs || !config.source.iter().any(runs)) && sockets.all(|(_, path)| is_within(&path))
    }
}

impl Rules {
    fn new(
        config: &Config,
        named: Option<&Path>,
        sys_root: &Path,
        variable: Variable<'_>,
    ) -> Rules {
        let runs = config.source.iter().any(runs);
        let mut paths = Vec::new();
        if runs {
            paths.extend(for_programs(variable));
        } else {
            paths.extend(for_sensors(sys_root));
            paths.extend(for_reloading(named, sys_root, variable));
        }
        paths.extend(switches(sys_root));
        paths.extend(config.source.iter().filter_map(socket));
        paths.sort_unstable();
        paths.dedup();
        let is_abstract = |socket: OsString| socket.as_encoded_bytes().starts_with(b"@");
        let mut scopes = BitFlags::from(Scope::Signal);
        if !runs && !variable("NOTIFY_SOCKET").is_some_and(is_abstract) {
            scopes |= Scope::AbstractUnixSocket;
        }
        Rules {
            paths,
            tcp: runs,
            scopes,
        }
    }

    /// For the calling thread and all that it starts, for ever.
    fn enforce(&self) -> Result<RestrictionStatus, RulesetError> {
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .scope(self.scopes)?;
        if !self.tcp {
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
        }
        let mut created = ruleset.create()?;
        for (right, path) in &self.paths {
            if let Ok(path) = PathFd::new(path) {
                created = created.add_rule(PathBeneath::new(path, right.access()))?;
            }
        }
        created.restrict_self()
    }

    /// What a kernel with this ABI holds us to.
    fn told(&self, abi: ABI) -> String {
        let mut told = format!("confined by landlock {abi}:");
        for (word, rights) in WORDS {
            let of_it = self
                .paths
                .iter()
                .filter(|(right, _)| rights.contains(right));
            let mut names: Vec<String> = of_it
                .filter(|(_, path)| path.exists())
                .map(|(_, path)| path.display().to_string())
                .collect();
            names.sort_unstable();
            names.dedup();
            if names.is_empty() {
                names.push("nothing".to_owned());
            }
            told += &format!(" {word} {};", names.join(" "));
        }
        told += match (self.tcp, abi >= ABI::V4) {
            (false, true) => " opens no TCP connection",
            _ => " opens any TCP connection",
        };
        told
    }
}

/// The kernel's files, and the map of our own memory.
fn for_sensors(sys_root: &Path) -> Vec<(Right, PathBuf)> {
    let own = PathBuf::from("/proc/self");
    let roots = [sys_root.join("proc"), sys_root.join("sys")];
    let own = (sys_root != Path::new("/")).then_some(own);
    let paths = roots.into_iter().chain(own);
    paths.map(|path| (Right::Look, path)).collect()
}

/// The folders of what SIGHUP reads anew: others put a new file in an old one's place.
fn for_reloading(
    named: Option<&Path>,
    sys_root: &Path,
    variable: Variable<'_>,
) -> Vec<(Right, PathBuf)> {
    let mut files = match named {
        Some(path) => vec![path.to_owned()],
        None => config::search_paths(variable("XDG_CONFIG_HOME"), variable("HOME")),
    };
    let links: Vec<PathBuf> = files
        .iter()
        .filter_map(|file| file.canonicalize().ok())
        .collect();
    files.extend(links);
    let resolver = sys_root.join("etc/resolv.conf");
    files.push(resolver.canonicalize().unwrap_or(resolver));
    let folder = |file: PathBuf| match file.parent() {
        Some(here) if here.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) if folder != Path::new("/") => folder.to_owned(),
        // Not everything there is for the sake of one file.
        _ => file,
    };
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let read = files
        .into_iter()
        .map(|file| (Right::Read, real(folder(file))));
    read.collect()
}

/// Programs of sources read and run what they want, and speak to devices.
fn for_programs(variable: Variable<'_>) -> Vec<(Right, PathBuf)> {
    let mut paths = vec![
        (Right::Run, PathBuf::from("/")),
        (Right::Device, PathBuf::from("/dev")),
    ];
    for name in WRITABLE {
        let folders = variable(name).unwrap_or_default();
        let folders = std::env::split_paths(&folders).filter(|folder| folder.is_absolute());
        paths.extend(folders.map(|folder| (Right::Write, folder)));
    }
    paths
}

/// What has all sensors of a 1-wire bus convert at once. The sensors of a bus that comes later
/// convert one by one.
fn switches(sys_root: &Path) -> Vec<(Right, PathBuf)> {
    let buses = fs::read_dir(sys_root.join("sys/bus/w1/devices"));
    let buses = buses.into_iter().flatten().flatten();
    let switch = buses.map(|bus| bus.path().join("therm_bulk_read"));
    let there = switch.filter(|switch| switch.exists());
    there.map(|switch| (Right::Switch, switch)).collect()
}

fn runs(row: &SourceEntry) -> bool {
    matches!(row, SourceEntry::Exec(_))
}

/// Where the socket of a source is made: its folder, or the nearest there is while that is missing.
fn socket(row: &SourceEntry) -> Option<(Right, PathBuf)> {
    let SourceEntry::Datagram(datagram) = row else {
        return None;
    };
    let mut folders = datagram.path.ancestors().skip(1);
    let folder = folders.find(|folder| folder.is_dir())?;
    Some((Right::Socket, folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;
    use std::thread;

    const EXEC: &str = "[[source]]\nkind = \"exec\"\ncommand = [\"a\"]\ntopic = \"a\"\n";

    fn config(text: &str) -> Config {
        let layer = Layer {
            file: "encke.toml",
            text,
            is_profile: false,
        };
        Config::new(&[layer]).unwrap()
    }

    /// A folder of this test's own, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("encke-sandbox-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Folder(path.canonicalize().unwrap())
        }

        fn put(&self, path: &str) -> PathBuf {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "0").unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn nothing(_: &str) -> Option<OsString> {
        None
    }

    fn shown(rules: &Rules) -> Vec<String> {
        let line = |(right, path): &(Right, PathBuf)| format!("{right:?} {}", path.display());
        rules.paths.iter().map(line).collect()
    }

    #[test]
    fn sources_have_the_room_that_they_had_at_the_start() {
        let folder = Folder::new("room");
        let of = |path: &str| {
            let path = folder.put(&format!("{path}/x")).with_file_name("socket");
            let path = path.display();
            format!("[[source]]\nkind = \"datagram\"\npath = \"{path}\"\n")
        };
        let (near, below, far) = (of("a"), of("a/b"), of("c"));
        for (started, now, want) in [
            ("", "", true),
            ("", EXEC, false),
            ("", "[[source]]\nkind = \"stdin\"\n", true),
            ("", &near, false),
            (EXEC, "", true),
            (EXEC, &EXEC.repeat(2), true),
            (EXEC, &near, false),
            (&near, EXEC, false),
            (&near, &near, true),
            (&near, &below, true),
            (&near, &far, false),
            (&below, &near, false),
        ] {
            let room = Room::new(&config(started));
            assert_eq!(room.has(&config(now)), want, "{started} then {now}");
        }
    }

    #[test]
    fn without_programs_only_what_is_read_again() {
        fn rules(named: Option<&str>, variable: Variable<'_>) -> Rules {
            let named = named.map(Path::new);
            Rules::new(&config(""), named, Path::new("/no"), variable)
        }
        let want = ["Look /no/proc", "Look /no/sys", "Look /proc/self"];
        let of = |file: &str| shown(&rules(Some(file), &nothing))[3..].to_vec();
        assert_eq!(shown(&rules(Some("a.toml"), &nothing))[..3], want);
        assert_eq!(of("/no/c/a.toml"), ["Read /no/c", "Read /no/etc"]);
        let here = format!("Read {}", std::env::current_dir().unwrap().display());
        assert!(of("a.toml").contains(&here));
        assert_eq!(of("/no.toml"), ["Read /no/etc", "Read /no.toml"]);
        let home = |name: &str| (name == "HOME").then(|| "/no/home".into());
        let found = shown(&rules(None, &home))[3..].to_vec();
        let want = [
            "Read /etc/encke",
            "Read /no/etc",
            "Read /no/home/.config/encke",
        ];
        assert_eq!(found, want);
        let rules = rules(None, &nothing);
        assert!(!rules.tcp);
        assert_eq!(rules.scopes, Scope::from_all(KNOWN));
        let machine = shown(&Rules::new(&config(""), None, Path::new("/"), &nothing));
        assert_eq!(machine[..2], ["Look /proc", "Look /sys"]);
        assert!(!machine[2].starts_with("Look "), "its own is in /proc");
    }

    #[test]
    fn links_are_followed_to_the_folder_they_lead_to() {
        let folder = Folder::new("links");
        folder.put("run/resolve/stub.conf");
        folder.put("store/encke.toml");
        fs::create_dir_all(folder.0.join("etc")).unwrap();
        let link = |to, at: &str| std::os::unix::fs::symlink(to, folder.0.join(at)).unwrap();
        link("../run/resolve/stub.conf", "etc/resolv.conf");
        link("../store/encke.toml", "etc/encke.toml");
        let named = folder.0.join("etc/encke.toml");
        let rules = Rules::new(&config(""), Some(&named), &folder.0, &nothing);
        let below = |path: &str| format!("Read {}/{path}", folder.0.display());
        let want = [below("etc"), below("run/resolve"), below("store")];
        assert_eq!(shown(&rules)[3..], want);
    }

    #[test]
    fn programs_read_and_run_everything_and_write_where_they_are_told() {
        let variable = |name: &str| match name {
            "RUNTIME_DIRECTORY" => Some("/run/a:/run/b".into()),
            "STATE_DIRECTORY" => Some("not/absolute".into()),
            "TMPDIR" => Some("/run/a".into()),
            "NOTIFY_SOCKET" => Some("/run/notify".into()),
            _ => None,
        };
        let rules = Rules::new(&config(EXEC), None, Path::new("/no"), &variable);
        let want = ["Run /", "Device /dev", "Write /run/a", "Write /run/b"];
        assert_eq!(shown(&rules), want);
        assert!(rules.tcp);
        assert_eq!(rules.scopes, Scope::Signal);
    }

    #[test]
    fn an_abstract_socket_of_the_service_manager_stays_reachable() {
        let scopes = |socket: &'static str| {
            let variable = move |name: &str| (name == "NOTIFY_SOCKET").then(|| socket.into());
            Rules::new(&config(""), None, Path::new("/no"), &variable).scopes
        };
        assert_eq!(scopes("@encke"), Scope::Signal);
        assert_eq!(scopes("/run/@encke"), Scope::from_all(KNOWN));
    }

    #[test]
    fn buses_have_their_switch_and_sockets_their_folder() {
        let folder = Folder::new("switch");
        let bus = "sys/bus/w1/devices/w1_bus_master1";
        let switch = folder.put(&format!("{bus}/therm_bulk_read"));
        folder.put("sys/bus/w1/devices/28-0316a2798fd1/temperature");
        folder.put("run/encke/other");
        let row = |path: &str| {
            let path = folder.0.join(path);
            format!(
                "[[source]]\nkind = \"datagram\"\npath = \"{}\"\n",
                path.display()
            )
        };
        let text = row("run/encke/readings") + &row("run/encke/more") + &row("run/no/such/socket");
        let rules = Rules::new(&config(&text), None, &folder.0, &nothing);
        let shown = shown(&rules);
        let below = |path: &str| format!("{}/{path}", folder.0.display());
        assert!(
            shown.contains(&format!("Switch {}", switch.display())),
            "{shown:?}"
        );
        let sockets: Vec<_> = shown
            .iter()
            .filter(|rule| rule.starts_with("Socket"))
            .collect();
        let want = [below("run"), below("run/encke")].map(|path| format!("Socket {path}"));
        assert_eq!(sockets, want.iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_told_is_what_the_kernel_holds_us_to() {
        let folder = Folder::new("told");
        folder.put("proc/a");
        let named = folder.0.join("encke.toml");
        let rules = Rules::new(&config(""), Some(&named), &folder.0, &nothing);
        let here = folder.0.display().to_string();
        let mut read = ["/proc/self".to_owned(), format!("{here}/proc"), here];
        read.sort();
        let read = read.join(" ");
        let want = format!("reads {read}; writes nothing; runs nothing;");
        let new = format!("confined by landlock 7: {want} opens no TCP connection");
        assert_eq!(rules.told(ABI::V7), new);
        let old = format!("confined by landlock 1: {want} opens any TCP connection");
        assert_eq!(rules.told(ABI::V1), old);
        let rules = Rules::new(&config(EXEC), None, &folder.0, &nothing);
        let told = "confined by landlock 7: reads /; writes /dev; runs /; opens any TCP connection";
        assert_eq!(rules.told(ABI::V7), told);
    }

    #[test]
    fn a_confined_thread_has_what_is_allowed_and_nothing_else() {
        let (folder, other) = (Folder::new("inside"), Folder::new("outside"));
        let (inside, outside) = (folder.put("encke.toml"), other.put("secret"));
        let switch = folder.put("sys/bus/w1/devices/w1_bus_master1/therm_bulk_read");
        let text = format!(
            "[[source]]\nkind = \"datagram\"\npath = \"{}/socket\"\n",
            folder.0.display()
        );
        let rules = Rules::new(&config(&text), Some(&inside), &folder.0, &nothing);
        let (inside, outside, socket) = (&inside, &outside, &folder.0.join("socket"));
        let open = |path| fs::File::options().write(true).open(path).map(drop);
        let confined = || {
            let status = rules.enforce().unwrap();
            if status.ruleset == RulesetStatus::NotEnforced {
                return false;
            }
            let denied = Some(ErrorKind::PermissionDenied);
            assert_eq!(fs::read_to_string(inside).unwrap(), "0");
            assert_eq!(fs::read(outside).err().map(|why| why.kind()), denied);
            assert_eq!(open(inside).err().map(|why| why.kind()), denied);
            open(&switch).unwrap();
            assert_eq!(fs::remove_file(outside).err().map(|why| why.kind()), denied);
            let ran = std::process::Command::new("/bin/true").status();
            assert_eq!(ran.err().map(|why| why.kind()), denied);
            drop(UnixDatagram::bind(socket).unwrap());
            fs::remove_file(socket).unwrap();
            assert!(fs::read_to_string("/proc/self/maps").is_ok());
            true
        };
        let is_confined = thread::scope(|scope| scope.spawn(confined).join().unwrap());
        assert!(fs::read(outside).is_ok(), "this thread is not");
        eprintln!("landlock here: {is_confined}");
    }
}
