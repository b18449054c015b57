//! SIGTERM, SIGINT and SIGHUP as something to wait for, without a thread of its own.
//!
//! A handler writes the signal's number into a pipe (self-pipe); the executor reads it.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use async_io::Async;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::runtime::Stopper;

/// The end of the pipe that the handler writes to. Never closed once it is set.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// A signal that dts handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop.
    Term,
    /// SIGINT: stop.
    Int,
    /// SIGHUP.
    Hup,
}

impl Signal {
    /// As the manual calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Hup => "SIGHUP",
        }
    }
}

/// Where signals arrive.
#[derive(Debug)]
pub struct Signals(Async<OwnedFd>);

impl Signals {
    /// Takes the signals over for the rest of the process. One that is ignored (`nohup`) stays so.
    pub fn install() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        PIPE.store(write.into_raw_fd(), Ordering::SeqCst);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            handle(signal)?;
        }
        Ok(Self(Async::new_nonblocking(read)?))
    }

    /// The next signal. Cancel safe.
    pub async fn next(&self) -> io::Result<Signal> {
        loop {
            let mut byte = [0];
            self.0.read_with(|fd| Ok(rustix::io::read(fd, &mut byte)?)).await?;
            match i32::from(byte[0]) {
                libc::SIGTERM => return Ok(Signal::Term),
                libc::SIGINT => return Ok(Signal::Int),
                libc::SIGHUP => return Ok(Signal::Hup),
                _ => {}
            }
        }
    }
}

/// Says stop at the first SIGTERM or SIGINT, and ends the process at the second.
pub async fn stop_on(signals: Signals, stopper: Stopper) {
    let mut stopping = false;
    loop {
        match signals.next().await {
            Ok(Signal::Hup) => {
                log::warn!(
                    "SIGHUP: the config is not read again while dts runs; restart dts to apply a change"
                );
            }
            Ok(signal) if stopping => {
                log::warn!(
                    "a second signal, {}: ending at once; what is on disk stays for the next start",
                    signal.name()
                );
                std::process::exit(128 + if signal == Signal::Term { libc::SIGTERM } else { libc::SIGINT });
            }
            Ok(signal) => {
                log::info!("{}: stopping", signal.name());
                stopping = true;
                stopper.stop();
            }
            Err(error) => {
                log::error!("cannot wait for signals: {error}; stopping");
                stopper.stop();
                return;
            }
        }
    }
}

fn handle(signal: i32) -> io::Result<()> {
    // SAFETY: `sigaction` is plain data for which zero is valid; the pointers are to live locals; the
    // handler does only what is safe in a signal handler.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &raw mut old) != 0 {
            return Err(io::Error::last_os_error());
        }
        if old.sa_sigaction == libc::SIG_IGN {
            return Ok(());
        }
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        new.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut new.sa_mask);
        if libc::sigaction(signal, &raw const new, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_signal(signal: i32) {
    let byte = signal as u8;
    // SAFETY: write(2) is async-signal-safe, `byte` lives; errno belongs to the code that was interrupted
    // and is put back. A full pipe holds enough signals already.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        libc::write(PIPE.load(Ordering::SeqCst), (&raw const byte).cast(), 1);
        *errno = saved;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Lines};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use rustix::process::{Pid, Signal as Os, kill_process};

    use super::*;
    use crate::runtime::{self, Stop};

    /// A process of its own, since handlers are the whole process's: this test binary again.
    fn child(role: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::signal::tests::the_child", "--nocapture", "--test-threads=1"])
            .env("DTS_TEST_SIGNALS", role)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }

    fn wait_for(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) {
        assert!(lines.any(|line| line.unwrap().ends_with(wanted)), "the child did not say {wanted:?}");
    }

    fn send(child: &Child, signal: Os) {
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Does nothing as a test; as a child it is a program that handles signals.
    #[test]
    fn the_child() {
        let Ok(role) = std::env::var("DTS_TEST_SIGNALS") else { return };
        let signals = Signals::install().unwrap();
        runtime::block_on(async {
            let (stopper, stop) = Stop::new();
            println!("ready");
            if role == "hup" {
                assert_eq!(signals.next().await.unwrap(), Signal::Hup);
                println!("heard");
            }
            let _watch = runtime::spawn(stop_on(signals, stopper));
            stop.wait().await;
            println!("stopping");
            if role == "stubborn" {
                std::future::pending::<()>().await;
            }
        });
    }

    #[test]
    fn the_first_signal_stops() {
        for signal in [Os::TERM, Os::INT] {
            let (mut child, mut lines) = child("good");
            wait_for(&mut lines, "ready");
            send(&child, signal);
            wait_for(&mut lines, "stopping");
            assert!(child.wait().unwrap().success());
        }
    }

    #[test]
    fn the_second_signal_ends_at_once() {
        for (signal, code) in [(Os::TERM, 143), (Os::INT, 130)] {
            let (mut child, mut lines) = child("stubborn");
            wait_for(&mut lines, "ready");
            send(&child, Os::TERM);
            wait_for(&mut lines, "stopping");
            send(&child, signal);
            assert_eq!(child.wait().unwrap().code(), Some(code));
        }
    }

    #[test]
    fn a_hangup_does_not_stop() {
        let (mut child, mut lines) = child("hup");
        wait_for(&mut lines, "ready");
        send(&child, Os::HUP);
        wait_for(&mut lines, "heard");
        send(&child, Os::HUP);
        send(&child, Os::TERM);
        wait_for(&mut lines, "stopping");
        assert!(child.wait().unwrap().success());
    }
}
