//! Memory that is let go of: code that ran at start and hardly will again.
//!
//! Follows madvise(2) and proc_pid_maps(5). The kernel maps 64 KB around each first use of a page
//! of code, so after start most of the program is resident: two thirds of all the memory of a small
//! board's server. This file never touches memory that anything was written to.

use std::fs;

/// Takes the program's code out of its memory. What runs on is mapped again, from the page cache,
/// as it is used. Nothing happens where /proc is not there.
pub fn let_go_of_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else {
        return;
    };
    let here = let_go_of_code as *const () as usize;
    if let Some((start, end)) = maps.lines().find_map(|line| code(line, here)) {
        unmap(start, end);
    }
}

/// The mapping that a line of /proc/PID/maps describes, if it is code and holds `address`.
fn code(line: &str, address: usize) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let is_it = rest.starts_with("r-xp") && (start..end).contains(&address);
    is_it.then_some((start, end))
}

#[allow(unsafe_code)]
fn unmap(start: usize, end: usize) {
    // SAFETY: the range is one mapping of this program's code: private, of a file, and never
    // written to, so each page comes back from the file as it was.
    unsafe {
        libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_around_an_address() {
        let line = "00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/encke";
        assert_eq!(code(line, 0x40_1000), Some((0x40_0000, 0x45_2000)));
        assert_eq!(code(line, 0x45_2000), None);
        assert_eq!(code(&line.replace("r-xp", "r--p"), 0x40_1000), None);
        assert_eq!(code(&line.replace("r-xp", "rwxp"), 0x40_1000), None);
        assert_eq!(code("nonsense", 0), None);
    }

    #[test]
    fn everything_runs_on() {
        let_go_of_code();
        assert_eq!(format!("{:?}", [1.5, 2.5]), "[1.5, 2.5]");
    }
}
