//! A SQLite VFS over the disks of the simulation. Files are named `/sim/<disk>/<name>`.
//!
//! Only what SQLite needs with `locking_mode=EXCLUSIVE`: no shared memory, no locks. The disks are found by the thread, so
//! simulations on several threads do not meet.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

use super::disk::{self, Trouble};

/// The VFS's name.
pub(super) const NAME: &str = "dts-sim";

/// Registers it, once a process.
pub(super) fn register() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let vfs = Box::leak(Box::new(ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: size_of::<Open>() as c_int,
            mxPathname: 256,
            pNext: std::ptr::null_mut(),
            zName: c"dts-sim".as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: None,
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: the structure is never freed and all its functions are those of a VFS of version 1.
        let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        assert_eq!(code, ffi::SQLITE_OK);
    });
}

/// What SQLite allocates for an open file.
#[repr(C)]
struct Open {
    base: ffi::sqlite3_file,
    disk: u32,
    /// Leaked at open, freed at close.
    name: *mut String,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Disk and file of a path.
unsafe fn place(path: *const c_char) -> Option<(u32, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives a string that ends in zero.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    let (disk, name) = path.strip_prefix("/sim/")?.split_once('/')?;
    Some((disk.parse().ok()?, name.to_owned()))
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<Open>();
    // SAFETY: SQLite allocated `szOsFile` bytes for it; without methods it is not closed after an error.
    unsafe { (*file).base.pMethods = std::ptr::null() };
    // SAFETY: as SQLite calls it.
    let Some((id, name)) = (unsafe { place(path) }) else { return ffi::SQLITE_CANTOPEN };
    let found = disk::with(id, |d| {
        if flags & ffi::SQLITE_OPEN_CREATE != 0 {
            d.create(&name)
        } else if d.dead || !d.exists(&name) {
            Err(Trouble::Missing)
        } else {
            Ok(())
        }
    });
    if found != Some(Ok(())) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: as above.
    unsafe {
        (*file).disk = id;
        (*file).name = Box::into_raw(Box::new(name));
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

/// Runs `f` on the disk of an open file.
unsafe fn on(
    file: *mut ffi::sqlite3_file,
    io: c_int,
    f: impl FnOnce(&mut disk::Disk, &str) -> Result<c_int, Trouble>,
) -> c_int {
    let file = file.cast::<Open>();
    // SAFETY: SQLite gives files that `open` filled in.
    let (id, name) = unsafe { ((*file).disk, &*(*file).name) };
    match disk::with(id, |d| f(d, name)) {
        Some(Ok(code)) => code,
        Some(Err(Trouble::Full)) => ffi::SQLITE_FULL,
        _ => io,
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let file = file.cast::<Open>();
    // SAFETY: `open` made the name; SQLite closes once.
    unsafe { drop(Box::from_raw((*file).name)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, buf: *mut c_void, len: c_int, at: i64) -> c_int {
    // SAFETY: SQLite gives a buffer of `len` bytes.
    let buf = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len as usize) };
    // SAFETY: as SQLite calls it.
    unsafe {
        on(file, ffi::SQLITE_IOERR_READ, |d, name| {
            let n = d.read(name, at as usize, buf)?;
            buf[n..].fill(0);
            Ok(if n == buf.len() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ })
        })
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, buf: *const c_void, len: c_int, at: i64) -> c_int {
    // SAFETY: SQLite gives a buffer of `len` bytes.
    let buf = unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), len as usize) };
    // SAFETY: as SQLite calls it.
    unsafe {
        on(file, ffi::SQLITE_IOERR_WRITE, |d, name| d.write(name, at as usize, buf).map(|()| ffi::SQLITE_OK))
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: as SQLite calls it.
    unsafe {
        on(file, ffi::SQLITE_IOERR_TRUNCATE, |d, name| {
            d.truncate(name, len as usize).map(|()| ffi::SQLITE_OK)
        })
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: as SQLite calls it.
    unsafe { on(file, ffi::SQLITE_IOERR_FSYNC, |d, name| d.sync(name).map(|()| ffi::SQLITE_OK)) }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: as SQLite calls it.
    unsafe {
        on(file, ffi::SQLITE_IOERR_FSTAT, |d, name| {
            *size = d.size(name).ok_or(Trouble::Missing)? as i64;
            Ok(ffi::SQLITE_OK)
        })
    }
}

unsafe extern "C" fn lock(_file: *mut ffi::sqlite3_file, _level: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved(_file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_file: *mut ffi::sqlite3_file, _op: c_int, _arg: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    // As SQLite's own for Linux: what lies beside a write is not harmed by it.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn delete(_vfs: *mut ffi::sqlite3_vfs, path: *const c_char, _sync: c_int) -> c_int {
    // SAFETY: as SQLite calls it.
    let Some((id, name)) = (unsafe { place(path) }) else { return ffi::SQLITE_IOERR_DELETE };
    match disk::with(id, |d| d.remove(&name)) {
        Some(Ok(())) => ffi::SQLITE_OK,
        Some(Err(Trouble::Missing)) => ffi::SQLITE_IOERR_DELETE_NOENT,
        _ => ffi::SQLITE_IOERR_DELETE,
    }
}

unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as SQLite calls it.
    let there = unsafe { place(path) }.and_then(|(id, name)| disk::with(id, |d| d.exists(&name)));
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = c_int::from(there == Some(true)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: the path ends in zero, `out` has `len` bytes.
    unsafe {
        let path = CStr::from_ptr(path).to_bytes_with_nul();
        if path.len() > len as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(path.as_ptr().cast(), out, path.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_vfs: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    // SAFETY: `out` has `len` bytes.
    unsafe { std::ptr::write_bytes(out, 0x5d, len as usize) };
    len
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, us: c_int) -> c_int {
    us
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = 2_460_000.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_vfs: *mut ffi::sqlite3_vfs, _len: c_int, _out: *mut c_char) -> c_int {
    0
}
