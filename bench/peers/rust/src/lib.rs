//! What every peer in Rust does beside decoding: counting, folding, measuring itself.
use std::time::Instant;

#[derive(Default)]
pub struct Tally {
    pub rows: u64,
    pub images: u64,
    pub sum: u64,
    pub crc_checked: u64,
}

impl Tally {
    #[inline]
    pub fn int(&mut self, v: u64) {
        self.sum = self.sum.rotate_left(5) ^ v;
    }
    #[inline]
    #[allow(dead_code)]
    pub fn bytes(&mut self, b: &[u8]) {
        // cheap: length, first and last byte
        let (f, l) = match b {
            [] => (0, 0),
            [f, .., l] => (*f, *l),
            [f] => (*f, *f),
        };
        self.int((b.len() as u64) << 16 | (f as u64) << 8 | l as u64);
    }
}

/// user + system seconds of this process, peak RSS in kB
fn usage() -> (f64, i64) {
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
    let cpu = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) as f64
        + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) as f64 / 1e6;
    (cpu, u.ru_maxrss)
}

pub fn measure(peer: &str, path: &str, f: impl FnOnce(&mut Tally) -> Result<(), String>) {
    let bytes = std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
    let mut t = Tally::default();
    let cpu0 = usage().0;
    let start = Instant::now();
    let err = f(&mut t).err();
    let s = start.elapsed().as_secs_f64();
    let (cpu1, rss) = usage();
    let cpu = cpu1 - cpu0;
    println!(
        "{{\"peer\":\"{peer}\",\"bytes\":{bytes},\"rows\":{},\"images\":{},\"checksum\":\"{:016x}\",\"crc_checked\":{},\"seconds\":{s:.6},\"cpu_seconds\":{cpu:.3},\"mb_s\":{:.1},\"rss_kb\":{},\"error\":{}}}",
        t.rows,
        t.images,
        t.sum,
        t.crc_checked,
        bytes as f64 / 1e6 / s,
        rss,
        err.as_deref().map_or("null".into(), |e| format!("\"{}\"", e.replace(['\\', '"', '\n'], " ")))
    );
    if err.is_some() {
        std::process::exit(3);
    }
}
