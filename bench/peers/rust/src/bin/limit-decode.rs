// What a decoder could reach: header walk, CRC, table map, every value touched, for the files oltp, narrow and small-txn only
// (one table, seven type shapes, no signedness, no zstd). Modes: crc, nocrc, compact (also writes a row buffer).

use dts_bench_peers::{Tally, measure};
use std::io::Read;

#[derive(Clone, Copy, PartialEq)]
enum K {
    I1,
    I2,
    I3,
    I4,
    I8,
    S1,
    S2,
} // fixed ints; strings with 1 or 2 length bytes

struct Map {
    id: u64,
    n: usize,
    k: [K; 64],
}

fn le(b: &[u8], n: usize) -> u64 {
    let mut v = 0;
    for i in 0..n {
        v |= (b[i] as u64) << (8 * i);
    }
    v
}
fn u32le(b: &[u8], p: usize) -> u32 {
    u32::from_le_bytes(b[p..p + 4].try_into().unwrap())
}

fn table_map(e: &[u8], m: &mut Map) -> Option<()> {
    let id = le(&e[19..25], 6);
    let mut p = 27;
    p += 2 + e[p] as usize; // db, NUL
    p += 2 + e[p] as usize; // table, NUL
    let n = e[p] as usize;
    p += 1;
    let types = &e[p..p + n];
    p += n;
    p += 1; // metadata length (<251 here)
    m.id = id;
    m.n = n;
    for i in 0..n {
        m.k[i] = match types[i] {
            1 => K::I1,
            2 => K::I2,
            9 => K::I3,
            3 => K::I4,
            8 => K::I8,
            254 => {
                let (a, b) = (e[p], e[p + 1]);
                p += 2;
                let len = if a & 0x30 != 0x30 {
                    b as usize | ((a as usize & 0x30) ^ 0x30) << 4
                } else {
                    b as usize
                };
                if len > 255 { K::S2 } else { K::S1 }
            }
            15 => {
                let len = e[p] as usize | (e[p + 1] as usize) << 8;
                p += 2;
                if len > 255 { K::S2 } else { K::S1 }
            }
            _ => return None,
        };
    }
    Some(())
}

#[inline(always)]
fn image(e: &[u8], mut p: usize, m: &Map, t: &mut Tally, out: &mut Vec<u8>, compact: bool) -> usize {
    let nb = (m.n + 7) / 8;
    let nulls = le(&e[p..], nb);
    let start = p;
    p += nb;
    for i in 0..m.n {
        if nulls >> i & 1 == 1 {
            t.int(1);
            continue;
        }
        match m.k[i] {
            K::I1 => {
                t.int(e[p] as i8 as u64);
                p += 1
            }
            K::I2 => {
                t.int(i16::from_le_bytes(e[p..p + 2].try_into().unwrap()) as u64);
                p += 2
            }
            K::I3 => {
                t.int(le(&e[p..], 3));
                p += 3
            }
            K::I4 => {
                t.int(u32le(e, p) as i32 as u64);
                p += 4
            }
            K::I8 => {
                t.int(u64::from_le_bytes(e[p..p + 8].try_into().unwrap()));
                p += 8
            }
            K::S1 => {
                let n = e[p] as usize;
                p += 1;
                t.bytes(&e[p..p + n]);
                p += n
            }
            K::S2 => {
                let n = e[p] as usize | (e[p + 1] as usize) << 8;
                p += 2;
                t.bytes(&e[p..p + n]);
                p += n
            }
        }
    }
    if compact {
        // one copy of the image with a length prefix: stands for writing a compact row buffer
        out.extend_from_slice(&((p - start) as u32).to_le_bytes());
        out.extend_from_slice(&e[start..p]);
    }
    t.images += 1;
    p
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (crc, compact) = (!a[1].contains("nocrc"), a[1].contains("compact"));
    measure(&format!("limit-decode-{}", a[1]), &a[2], |t| {
        let mut f = std::fs::File::open(&a[2]).map_err(|e| e.to_string())?;
        let mut buf = vec![0u8; 4 << 20];
        let (mut lo, mut hi) = (0usize, 0usize);
        let mut m = Map { id: 0, n: 0, k: [K::I1; 64] };
        let mut out = Vec::with_capacity(1 << 20);
        let mut first = true;
        loop {
            if hi - lo < 19 || hi - lo < u32le(&buf, lo + 9) as usize || first {
                buf.copy_within(lo..hi, 0);
                hi -= lo;
                lo = 0;
                let n = f.read(&mut buf[hi..]).map_err(|e| e.to_string())?;
                hi += n;
                if first {
                    lo = 4;
                    first = false;
                }
                if n == 0 {
                    return if hi == lo { Ok(()) } else { Err("cut".into()) };
                }
                continue;
            }
            let n = u32le(&buf, lo + 9) as usize;
            let e = &buf[lo..lo + n];
            lo += n;
            if crc {
                if crc32fast::hash(&e[..n - 4]) != u32le(e, n - 4) && e[4] != 15 {
                    return Err("crc".into());
                }
                t.crc_checked += 1;
            }
            let e = &e[..n - 4];
            match e[4] {
                19 => table_map(e, &mut m).ok_or("type")?,
                x @ 30..=32 => {
                    if le(&e[19..25], 6) != m.id {
                        return Err("table id".into());
                    }
                    let mut p = 27 + (e[27] as usize | (e[28] as usize) << 8);
                    p += 1; // column count
                    p += (m.n + 7) / 8 * if x == 31 { 2 } else { 1 };
                    out.clear();
                    while p < e.len() {
                        p = image(e, p, &m, t, &mut out, compact);
                        if x == 31 {
                            p = image(e, p, &m, t, &mut out, compact);
                        }
                        t.rows += 1;
                    }
                    t.sum ^= std::hint::black_box(&out).len() as u64;
                }
                _ => {}
            }
        }
    });
}
