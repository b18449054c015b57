//! A binlog file, or a stream of one, event by event.
//!
//! Two windows slide: `main` over the file, `inner` over what is inflated of the event at hand. An
//! event up to [`Options::large_event_bytes`] is whole in one of them and read from there. A larger
//! one is checksummed in a first pass and then used from the sliding window: rows in parts, payloads
//! as a stream. So memory is bounded by the windows and by the largest row.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::checksum::Checksum;
use super::column::ColumnHint;
use super::decoder::Decoder;
use super::error::{Error, Malformed, Place, Problem};
use super::event::Event;
use super::header::{EventType, HEADER_BYTES, Header};
use super::inflate;
use super::input::Input;
use super::payload::{Compression, Payload, Zstd};
use super::query::Packed;
use super::rows::RowsKind;
use super::window::Window;

/// What every binlog begins with.
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// What MySQL's encrypted binlogs begin with.
const ENCRYPTED: [u8; 4] = [0xfd, b'b', b'i', b'n'];

/// The file's window: large enough that a read is worth its call, small enough for the second cache.
const MAIN_WINDOW: usize = 256 << 10;
/// The inflated window's usual size.
const INNER_WINDOW: usize = 256 << 10;
/// A payload that inflates to no more is inflated at once, which is faster.
const INNER_AT_ONCE: usize = 2 << 20;

/// More than what stands before the images or the payload of any event.
const HEAD_MAX: usize = 128 << 10;
/// Bytes of images in a part, where the rows are not larger.
const PART: usize = 256 << 10;

/// How to read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether checksums are verified. Default: yes.
    pub verify_checksums: bool,
    /// Bytes that one row, or one event that is no rows, may have; reading stops with an error at a
    /// larger one. Bounds memory. Default: 64 MiB.
    pub max_row_bytes: usize,
    /// Events above are not held in memory as a whole. Default: 16 MiB.
    pub large_event_bytes: usize,
    /// Largest window of a Zstandard frame, as a power of two: what a payload may make the reader
    /// keep. Default: 27, 128 MiB, which level 22 uses on a large transaction; level 3 uses 2 MiB.
    pub zstd_window_log_max: u32,
    /// How events end before the FORMAT_DESCRIPTION tells: what a replica asked for. Default: without checksum.
    pub checksum_before_format: Checksum,
    /// Where large events of a stream are put aside. Default: the system's folder for that.
    pub temp_dir: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verify_checksums: true,
            max_row_bytes: 64 << 20,
            large_event_bytes: 16 << 20,
            zstd_window_log_max: 27,
            checksum_before_format: Checksum::None,
            temp_dir: std::env::temp_dir(),
        }
    }
}

/// An event and where it stands.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    /// Its header.
    pub header: Header,
    /// Offset in the file where it begins; for an event in a compressed transaction, where the
    /// payload event begins.
    pub start: u64,
    /// Offset in the file behind it; behind the payload event for one in a compressed transaction.
    pub end: u64,
    /// For an event in a compressed transaction: its offset in the inflated payload.
    pub inside: Option<u64>,
    /// The event.
    pub event: Event<'a>,
}

impl Item<'_> {
    /// Whether the header's `end_log_pos` is where the event ends. Always true where the server
    /// left it open, and in a compressed transaction. In a relay log it is the source's position.
    pub fn position_agrees(&self) -> bool {
        self.inside.is_some()
            || self.header.next_position == 0
            || self.header.next_position == self.end as u32
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the magic number.
    Start,
    /// Between events.
    Events,
    /// In a payload, between its events.
    Payload,
    /// In an event of rows that comes in parts.
    Parts,
    /// At the end, or after an error.
    Done,
}

#[derive(Clone, Copy, Debug)]
enum Codec {
    Zstd,
    Stored,
    Zlib,
}

/// What is being inflated: the rest of the event in `main`, but its checksum.
#[derive(Clone, Copy, Debug)]
struct Stream {
    codec: Codec,
    /// Bytes made.
    made: u64,
    announced: Option<u64>,
    /// Offset of `inner`'s front in what is inflated.
    inside: u64,
    /// A zlib stream came to its end.
    over: bool,
}

/// Rows that come in parts.
#[derive(Debug, Default)]
struct Parts {
    header: Option<Header>,
    /// From the body's beginning up to the images.
    head: Vec<u8>,
    ends_statement: bool,
    /// Whether the images slide through `inner`.
    inner: bool,
    /// Bytes of images not yet used; `None` if only the stream's end tells.
    left: Option<u64>,
    /// Rows of the parts before, those of the part at hand, and whether it is the last.
    before: u64,
    rows: u64,
    last: bool,
    /// As [`Item::inside`].
    inside: Option<u64>,
}

/// What [`Reader::advance`] made ready to be lent. Two words and no more, so that the way of every event is through registers.
#[derive(Clone, Copy, Debug)]
enum Ready {
    End,
    /// At the front of `main`; bytes without checksum.
    Main(usize),
    /// At the front of `inner`.
    Inner(usize),
    /// Bytes of whole rows at the front of the window.
    Part(usize),
    /// At the front of `main`; passed over.
    Skipped,
}

/// What is wrong, in one word.
type Wrong = Box<Problem>;

/// Reads a binlog. See the module's page for how.
#[derive(Debug)]
pub struct Reader {
    input: Input,
    options: Options,
    decoder: Decoder,
    main: Window,
    inner: Window,
    zstd: Option<Zstd>,
    zlib: Option<flate2::Decompress>,
    state: State,
    /// Where the event at hand begins and ends.
    start: u64,
    end: u64,
    /// Bytes of it that were not taken from `main`.
    event_left: u64,
    /// Those of them that are its checksum.
    tail: usize,
    /// Bytes at the front of `main` and `inner` that were lent.
    main_lent: usize,
    inner_lent: usize,
    stream: Stream,
    parts: Parts,
    /// Type of the event at hand, for errors; nested ones too.
    at: Option<EventType>,
}

impl Reader {
    /// Reads a file from its beginning.
    pub fn from_file(file: File, options: Options) -> Self {
        Self::new(Input::file(file), options)
    }

    /// Reads a stream; events larger than [`Options::large_event_bytes`] go to a file first.
    pub fn from_stream(stream: impl Read + 'static, options: Options) -> Self {
        Self::new(Input::stream(Box::new(stream)), options)
    }

    fn new(input: Input, mut options: Options) -> Self {
        // So that every row above its limit is met on the way that bounds rows.
        options.large_event_bytes = options.large_event_bytes.min(options.max_row_bytes);
        let decoder = Decoder::new()
            .verify_checksums(options.verify_checksums)
            .checksum_before_format(options.checksum_before_format)
            .max_inflated_bytes(options.max_row_bytes.max(options.large_event_bytes) as u64);
        Self {
            input,
            decoder,
            main: Window::new(MAIN_WINDOW.min(options.large_event_bytes.max(4096))),
            inner: Window::empty(INNER_AT_ONCE),
            options,
            zstd: None,
            zlib: None,
            state: State::Start,
            start: 0,
            end: 0,
            event_left: 0,
            tail: 0,
            main_lent: 0,
            inner_lent: 0,
            stream: Stream { codec: Codec::Stored, made: 0, announced: None, inside: 0, over: false },
            parts: Parts::default(),
            at: None,
        }
    }

    /// The next event; `None` at the end of the file. After an error there is no next event.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Error> {
        match self.advance() {
            Ok(Ready::End) => {
                self.state = State::Done;
                Ok(None)
            }
            Ok(ready) => self.lend(ready),
            Err(problem) => {
                self.state = State::Done;
                Err(problem.at(self.place()))
            }
        }
    }

    /// What the file's first event said.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// As [`Decoder::describe`]: what the DDL knows of a table's columns.
    pub fn describe(&mut self, table_id: u64, hints: &[ColumnHint]) -> Result<bool, Error> {
        let place = self.place();
        self.decoder.describe(table_id, hints).map_err(|problem| problem.at(place))
    }

    /// Goes on at `offset`, where an event must begin: best after the FORMAT_DESCRIPTION was read.
    /// `false` if the input is a stream.
    pub fn seek(&mut self, offset: u64) -> Result<bool, Error> {
        let place = Place { offset, ..Place::default() };
        if !self.input.seek(offset).map_err(|e| Problem::Io(e).at(place))? {
            return Ok(false);
        }
        self.main.clear();
        self.inner.clear();
        (self.main_lent, self.inner_lent, self.event_left) = (0, 0, 0);
        (self.start, self.end, self.at) = (offset, offset, None);
        self.state = State::Events;
        Ok(true)
    }

    fn place(&self) -> Place {
        let inside = match self.state {
            State::Payload => Some(self.stream.inside),
            State::Parts => self.parts.inside,
            _ => None,
        };
        Place { offset: self.start, inside, event: self.at }
    }

    /// Turns what is ready into an event.
    #[inline(always)]
    fn lend(&mut self, ready: Ready) -> Result<Option<Item<'_>>, Error> {
        let Self { decoder, main, inner, parts, state, start, end, stream, at, .. } = self;
        let (start, end) = (*start, *end);
        let mut inside = matches!(*state, State::Payload).then_some(stream.inside);
        let (bytes, whole) = match ready {
            Ready::Main(len) => {
                inside = None;
                (main.data().get(..len), true)
            }
            Ready::Inner(len) => (inner.data().get(..len), true),
            Ready::Skipped => (main.data().get(..HEADER_BYTES), false),
            Ready::Part(_) | Ready::End => (None, false),
        };
        let problem = match (bytes, ready) {
            (Some(bytes), _) => match Header::parse(bytes) {
                Ok(header) if whole => match decoder.read(&header, bytes) {
                    Ok(event) => return Ok(Some(Item { header, start, end, inside, event })),
                    Err(problem) => *problem,
                },
                Ok(header) => return Ok(Some(Item { header, start, end, inside, event: Event::Skipped })),
                Err(malformed) => malformed.into(),
            },
            (None, Ready::Part(len)) => {
                let inside = parts.inside;
                match part(decoder, if parts.inner { inner } else { main }, parts, len) {
                    Ok((header, event)) => return Ok(Some(Item { header, start, end, inside, event })),
                    Err(problem) => problem,
                }
            }
            (None, _) => Problem::NoFormat,
        };
        *state = State::Done;
        Err(problem.at(Place { offset: start, inside, event: *at }))
    }

    #[inline(always)]
    fn advance(&mut self) -> Result<Ready, Wrong> {
        if self.state == State::Events { self.next_event() } else { self.advance_from_elsewhere() }
    }

    #[inline(never)]
    fn advance_from_elsewhere(&mut self) -> Result<Ready, Wrong> {
        loop {
            let ready = match self.state {
                State::Events => Some(self.next_event()?),
                State::Start => {
                    self.magic()?;
                    None
                }
                State::Payload => self.next_nested()?,
                State::Parts => self.next_part()?,
                State::Done => Some(Ready::End),
            };
            if let Some(ready) = ready {
                return Ok(ready);
            }
        }
    }

    fn magic(&mut self) -> Result<(), Problem> {
        self.fill(MAGIC.len())?;
        let found = self.main.data().get(..MAGIC.len().min(self.main.len())).unwrap_or_default();
        if found.is_empty() {
            return Err(Problem::Empty);
        }
        if found == ENCRYPTED {
            return Err(Problem::EncryptedFile);
        }
        if found != MAGIC {
            return Err(Problem::NotABinlog(found.to_vec()));
        }
        self.main.consume(MAGIC.len());
        self.end = MAGIC.len() as u64;
        self.state = State::Events;
        Ok(())
    }

    /// Until `n` bytes are in `main`, or the input ends: then `false`.
    #[inline]
    fn fill(&mut self, n: usize) -> Result<bool, Problem> {
        if self.main.len() >= n { Ok(true) } else { self.fill_slow(n) }
    }

    #[inline(never)]
    fn fill_slow(&mut self, n: usize) -> Result<bool, Problem> {
        while self.main.len() < n {
            let room = self.main.room("an event", n.max(4096))?;
            let got = self.input.read(room)?;
            if got == 0 {
                return Ok(false);
            }
            self.main.filled(got);
        }
        Ok(true)
    }

    /// Bytes of the event at hand go out of `main`.
    #[inline]
    fn take_main(&mut self, n: usize) {
        self.main.consume(n);
        self.event_left = self.event_left.saturating_sub(n as u64);
    }

    /// What was lent is used, and the rest of the event at hand is passed over.
    fn pass_over(&mut self) -> Result<(), Problem> {
        let lent = std::mem::take(&mut self.main_lent);
        self.take_main(lent);
        while self.event_left > 0 {
            if !self.fill(1)? {
                return Err(self.cut());
            }
            let n = usize::try_from(self.event_left).unwrap_or(usize::MAX).min(self.main.len());
            self.take_main(n);
        }
        Ok(())
    }

    /// The event at hand is longer than its file.
    fn cut(&self) -> Problem {
        let expected = self.end - self.start;
        Problem::Truncated { expected, found: expected - self.event_left + self.main.len() as u64 }
    }

    #[inline]
    fn next_event(&mut self) -> Result<Ready, Wrong> {
        if self.event_left > 0 {
            self.pass_over()?;
        }
        self.main.consume(std::mem::take(&mut self.main_lent));
        (self.start, self.at) = (self.end, None);
        if !self.fill(HEADER_BYTES)? {
            return match self.main.len() {
                0 => Ok(Ready::End),
                found => {
                    Err(Problem::Truncated { expected: HEADER_BYTES as u64, found: found as u64 }.into())
                }
            };
        }
        let header = Header::parse(self.main.data())?;
        self.at = Some(header.event_type);
        self.tail = match header.event_type {
            EventType::FORMAT_DESCRIPTION => 0,
            _ => self.decoder.checksum().bytes(),
        };
        let least = (HEADER_BYTES + self.tail) as u32;
        if header.length < least {
            return Err(Problem::Length { found: header.length, least }.into());
        }
        let length = header.length as usize;
        self.end = self.start + u64::from(header.length);
        if length > self.options.large_event_bytes {
            self.event_left = u64::from(header.length);
            return self.large(header);
        }
        if !self.fill(length)? {
            self.event_left = u64::from(header.length);
            return Err(self.cut().into());
        }
        let event = self.main.data().get(..length).unwrap_or_default();
        let body = self.decoder.checked(&header, event)?;
        let len = body.len();
        if header.event_type >= EventType::TRANSACTION_PAYLOAD && self.inflates(&header, len)? {
            self.event_left = u64::from(header.length);
            return self.inflate(header, len);
        }
        self.main_lent = length;
        Ok(Ready::Main(len))
    }

    /// Whether what is in the event at hand, of `len` bytes, is inflated as a stream: a transaction's payload, or compressed
    /// rows that become large.
    #[inline(never)]
    fn inflates(&self, header: &Header, len: usize) -> Result<bool, Problem> {
        if header.event_type == EventType::TRANSACTION_PAYLOAD {
            return Ok(true);
        }
        if !RowsKind::of(header.event_type).is_some_and(|(_, _, compressed)| compressed) {
            return Ok(false);
        }
        let mut images = self.main.data().get(HEADER_BYTES..len).unwrap_or_default();
        self.decoder.rows_head(&mut images, header.event_type)?;
        Ok(!images.is_empty() && Packed::parse(images)?.inflated_len > self.options.large_event_bytes as u64)
    }

    #[inline(never)]
    fn inflate(&mut self, header: Header, len: usize) -> Result<Ready, Wrong> {
        if header.event_type == EventType::TRANSACTION_PAYLOAD {
            self.begin_payload()?;
            return Ok(Ready::Main(len));
        }
        self.begin_parts(header)?;
        self.first_part()
    }

    /// An event that is not held in memory.
    #[inline(never)]
    fn large(&mut self, header: Header) -> Result<Ready, Wrong> {
        if self.options.verify_checksums && self.decoder.checksum() == Checksum::Crc32 {
            self.large_checksum()?;
        }
        let ty = header.event_type;
        let length = header.length as usize;
        if ty == EventType::TRANSACTION_PAYLOAD || RowsKind::of(ty).is_some() {
            // So that the head is there whole.
            self.fill(HEAD_MAX.min(length))?;
        }
        if ty == EventType::TRANSACTION_PAYLOAD {
            let len = self.main.len().min(length - self.tail);
            self.begin_payload()?;
            return Ok(Ready::Main(len));
        }
        if RowsKind::of(ty).is_some() {
            self.begin_parts(header)?;
            return self.first_part();
        }
        if matches!(ty, EventType::ROWS_QUERY | EventType::MARIADB_ANNOTATE_ROWS) || header.is_ignorable() {
            return Ok(Ready::Skipped);
        }
        if ty == EventType::MARIADB_PARTIAL_ROW_DATA {
            return Err(Problem::FragmentedRows.into());
        }
        let max = self.options.max_row_bytes;
        if length > max {
            return Err(Problem::TooLarge { what: "an event", max: max as u64 }.into());
        }
        if !self.fill(length)? {
            return Err(self.cut().into());
        }
        self.event_left = 0;
        self.main_lent = length;
        Ok(Ready::Main(length - self.tail))
    }

    /// Looks at the whole event at hand, without using it.
    fn large_checksum(&mut self) -> Result<(), Problem> {
        let length = self.end - self.start;
        let here = self.main.data();
        let here = here.get(..usize::try_from(length).unwrap_or(usize::MAX)).unwrap_or(here);
        let mut hasher = crc32fast::Hasher::new();
        // All but the last four bytes, wherever the blocks part them.
        let (mut seen, mut last) = (0u64, Vec::with_capacity(4));
        let mut look = |block: &[u8]| {
            let hashed = (length - 4).saturating_sub(seen).min(block.len() as u64) as usize;
            let (body, tail) = block.split_at_checked(hashed).unwrap_or((block, &[]));
            hasher.update(body);
            last.extend_from_slice(tail);
            seen += block.len() as u64;
        };
        look(here);
        let ahead = length - here.len() as u64;
        self.input.look_ahead(ahead, &self.options.temp_dir, &mut look)?;
        if seen < length {
            return Err(Problem::Truncated { expected: length, found: seen });
        }
        let (expected, found) = (super::bytes::le(&last) as u32, hasher.finalize());
        if expected == found { Ok(()) } else { Err(Problem::Checksum { expected, found }) }
    }

    /// `main` is at a payload event.
    fn begin_payload(&mut self) -> Result<(), Problem> {
        let event = self.event_left - self.tail as u64;
        let here = self.main.data();
        let here = here.get(..usize::try_from(event).unwrap_or(usize::MAX)).unwrap_or(here);
        let payload = Payload::parse(here.get(HEADER_BYTES..).unwrap_or_default())?;
        let head = here.len() - payload.bytes.len();
        if payload.stored_bytes != event - head as u64 {
            let expected = "the payload to fill its event";
            return Err(Malformed::Invalid { expected, found: payload.stored_bytes }.into());
        }
        let codec = match payload.compression {
            Compression::Zstd => Codec::Zstd,
            Compression::None => Codec::Stored,
        };
        let announced = payload.inflated_bytes;
        self.begin_stream(codec, announced)?;
        self.main_lent = head;
        self.state = State::Payload;
        Ok(())
    }

    fn begin_stream(&mut self, codec: Codec, announced: Option<u64>) -> Result<(), Problem> {
        self.stream = Stream { codec, made: 0, announced, inside: 0, over: false };
        self.inner_lent = 0;
        self.inner.clear();
        let at_once = announced.unwrap_or(0).min(INNER_AT_ONCE as u64) as usize;
        self.inner.widen(at_once.max(INNER_WINDOW.min(self.options.large_event_bytes)));
        match codec {
            Codec::Zstd => match &mut self.zstd {
                Some(zstd) => zstd.reset()?,
                None => self.zstd = Some(Zstd::new(self.options.zstd_window_log_max)?),
            },
            Codec::Zlib => self.zlib = Some(flate2::Decompress::new(true)),
            Codec::Stored => {}
        }
        Ok(())
    }

    /// Makes more bytes in `inner`. `false` at the stream's end.
    fn pump(&mut self) -> Result<bool, Problem> {
        loop {
            let left = self.event_left - (self.tail as u64).min(self.event_left);
            if self.stream.over || left == 0 && self.zstd_is_over() {
                return self.stream_over();
            }
            if left > 0 && !self.fill(1)? {
                return Err(self.cut());
            }
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.main.len());
            let input = self.main.data().get(..here).unwrap_or_default();
            let max = self.options.large_event_bytes.max(self.options.max_row_bytes).saturating_add(HEAD_MAX);
            let room = self.inner.room("a row", max)?;
            let (used, made) = match self.stream.codec {
                Codec::Stored => {
                    let n = input.len().min(room.len());
                    room.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
                    self.stream.over = n == input.len() && n as u64 == left;
                    (n, n)
                }
                Codec::Zstd => match &mut self.zstd {
                    Some(zstd) => zstd.run(input, room)?,
                    None => (0, 0),
                },
                Codec::Zlib => self.zlib.as_mut().map_or(Ok((0, 0)), |zlib| {
                    inflate::some("an event of rows", zlib, input, room, &mut self.stream.over)
                })?,
            };
            self.inner.filled(made);
            self.take_main(used);
            self.stream.made += made as u64;
            if self.stream.announced.is_some_and(|announced| self.stream.made > announced) {
                return Err(self.announced_wrongly());
            }
            if made > 0 {
                return Ok(true);
            }
            if used == 0 && !self.stream.over {
                let why = "the stream is cut short".into();
                return Err(Problem::Inflate { what: "a compressed event", why });
            }
        }
    }

    /// Whether the payload may end here: not within a frame of Zstandard.
    fn zstd_is_over(&self) -> bool {
        match self.stream.codec {
            Codec::Zstd => self.zstd.as_ref().is_none_or(|zstd| zstd.at_frame_end),
            Codec::Stored => true,
            Codec::Zlib => false,
        }
    }

    fn stream_over(&mut self) -> Result<bool, Problem> {
        self.stream.over = true;
        match self.stream.announced {
            Some(announced) if announced != self.stream.made => Err(self.announced_wrongly()),
            _ => Ok(false),
        }
    }

    fn announced_wrongly(&self) -> Problem {
        let announced = self.stream.announced.unwrap_or(0);
        let why = format!("{} bytes, {announced} announced", self.stream.made).into();
        Problem::Inflate { what: "a compressed event", why }
    }

    /// As [`Self::fill`], of `inner`.
    #[inline]
    fn fill_inner(&mut self, n: usize) -> Result<bool, Problem> {
        while self.inner.len() < n {
            if !self.pump()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take_inner(&mut self) {
        let n = std::mem::take(&mut self.inner_lent);
        self.inner.consume(n);
        self.stream.inside += n as u64;
    }

    /// The next event of a payload; `None` if there is none.
    fn next_nested(&mut self) -> Result<Option<Ready>, Wrong> {
        let lent = std::mem::take(&mut self.main_lent);
        self.take_main(lent);
        self.take_inner();
        self.at = Some(EventType::TRANSACTION_PAYLOAD);
        if !self.fill_inner(HEADER_BYTES)? {
            return match self.inner.len() {
                0 => {
                    self.state = State::Events;
                    Ok(None)
                }
                found => {
                    Err(Problem::Truncated { expected: HEADER_BYTES as u64, found: found as u64 }.into())
                }
            };
        }
        let header = Header::parse(self.inner.data())?;
        self.at = Some(header.event_type);
        let least = HEADER_BYTES as u32;
        if header.length < least {
            return Err(Problem::Length { found: header.length, least }.into());
        }
        if matches!(header.event_type, EventType::FORMAT_DESCRIPTION | EventType::TRANSACTION_PAYLOAD) {
            let (expected, found) = ("an event of a transaction in a payload", header.event_type.0);
            return Err(Malformed::Invalid { expected, found: u64::from(found) }.into());
        }
        let length = header.length as usize;
        if length > self.options.large_event_bytes {
            return self.large_nested(header).map(Some);
        }
        if !self.fill_inner(length)? {
            let found = self.inner.len() as u64;
            return Err(Problem::Truncated { expected: length as u64, found }.into());
        }
        self.inner_lent = length;
        Ok(Some(Ready::Inner(length)))
    }

    fn large_nested(&mut self, header: Header) -> Result<Ready, Wrong> {
        let length = header.length as usize;
        if RowsKind::of(header.event_type).is_some_and(|(_, _, compressed)| !compressed) {
            self.fill_inner(HEAD_MAX.min(length))?;
            // What stands behind the event is not its head.
            let end = length.min(self.inner.len());
            let here = self.inner.data().get(HEADER_BYTES..end).unwrap_or_default();
            let mut images = here;
            let ends_statement = self.decoder.rows_head(&mut images, header.event_type)?.ends_statement();
            let head = here.get(..here.len() - images.len()).unwrap_or_default().to_vec();
            self.inner_lent = HEADER_BYTES + head.len();
            let left = Some((length - self.inner_lent) as u64);
            let inside = Some(self.stream.inside);
            self.take_inner();
            self.parts = Parts {
                header: Some(header),
                head,
                ends_statement,
                inner: true,
                left,
                inside,
                ..Parts::default()
            };
            self.state = State::Parts;
            return self.first_part();
        }
        let max = self.options.max_row_bytes;
        if length > max {
            return Err(Problem::TooLarge { what: "an event", max: max as u64 }.into());
        }
        if !self.fill_inner(length)? {
            let found = self.inner.len() as u64;
            return Err(Problem::Truncated { expected: length as u64, found }.into());
        }
        self.inner_lent = length;
        Ok(Ready::Inner(length))
    }

    /// `main` is at an event of rows.
    fn begin_parts(&mut self, header: Header) -> Result<(), Problem> {
        let event = self.event_left - self.tail as u64;
        let here = self.main.data();
        let here = here.get(..usize::try_from(event).unwrap_or(usize::MAX)).unwrap_or(here);
        let body = here.get(HEADER_BYTES..).unwrap_or_default();
        let mut images = body;
        let ends_statement = self.decoder.rows_head(&mut images, header.event_type)?.ends_statement();
        let head = body.get(..body.len() - images.len()).unwrap_or_default().to_vec();
        let mut used = HEADER_BYTES + head.len();
        let compressed = RowsKind::of(header.event_type).is_some_and(|(_, _, compressed)| compressed);
        let mut left = None;
        if compressed {
            let packed = Packed::parse(images)?;
            used += images.len() - packed.zlib.len();
            let announced = packed.inflated_len;
            self.begin_stream(Codec::Zlib, Some(announced))?;
        } else {
            left = Some(event - used as u64);
        }
        self.take_main(used);
        self.parts =
            Parts { header: Some(header), head, ends_statement, inner: compressed, left, ..Parts::default() };
        self.state = State::Parts;
        Ok(())
    }

    fn first_part(&mut self) -> Result<Ready, Wrong> {
        match self.next_part()? {
            Some(ready) => Ok(ready),
            // An event of no rows.
            None => self.advance_from_elsewhere(),
        }
    }

    /// The next rows of an event that comes in parts; `None` behind the last.
    fn next_part(&mut self) -> Result<Option<Ready>, Problem> {
        let lent = if self.parts.inner { self.inner_lent } else { self.main_lent };
        if let Some(left) = &mut self.parts.left {
            *left -= (lent as u64).min(*left);
        }
        if self.parts.inner {
            self.take_inner();
        } else {
            let n = std::mem::take(&mut self.main_lent);
            self.take_main(n);
        }
        let Some(header) = self.parts.header else { return Ok(Some(Ready::End)) };
        let max = self.options.max_row_bytes;
        let mut target = PART.min(max);
        loop {
            let mut more = self.fill_part(target)?;
            let window = if self.parts.inner { &self.inner } else { &self.main };
            let here = window.data();
            let left = self.parts.left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
            let mut here = here.get(..left).unwrap_or(here);
            if let Some(some) = here.get(..max).filter(|some| some.len() < here.len()) {
                (here, more) = (some, true);
            }
            if here.is_empty() && !more {
                self.decoder.rows_over(self.parts.ends_statement);
                self.state = if self.parts.inside.is_some() { State::Payload } else { State::Events };
                return Ok(None);
            }
            let rows = self.decoder.rows_part(header.event_type, &self.parts.head, here)?;
            let before = self.parts.before + self.parts.rows;
            let (bytes, count) = rows.part(before, false).whole(more)?;
            if bytes > 0 {
                let last = !more && bytes == here.len();
                (self.parts.before, self.parts.rows, self.parts.last) = (before, count, last);
                *(if self.parts.inner { &mut self.inner_lent } else { &mut self.main_lent }) = bytes;
                return Ok(Some(Ready::Part(bytes)));
            }
            if here.len() >= max {
                return Err(Problem::TooLarge { what: "a row", max: max as u64 });
            }
            target = (here.len() * 2).min(max);
        }
    }

    /// Until `target` bytes of images are in their window, or all: then `false`.
    fn fill_part(&mut self, target: usize) -> Result<bool, Problem> {
        match (self.parts.inner, self.parts.left) {
            (false, left) => {
                let left = usize::try_from(left.unwrap_or(0)).unwrap_or(usize::MAX);
                if !self.fill(target.min(left))? {
                    return Err(self.cut());
                }
                Ok(left > self.main.len())
            }
            (true, Some(left)) => {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                if !self.fill_inner(target.min(left))? {
                    let (expected, found) = (left as u64, self.inner.len() as u64);
                    return Err(Problem::Truncated { expected, found });
                }
                Ok(left > self.inner.len())
            }
            (true, None) => self.fill_inner(target),
        }
    }
}

/// Rows at the front of a window: a part of a large event.
fn part<'a>(
    decoder: &'a Decoder,
    window: &'a Window,
    parts: &'a Parts,
    len: usize,
) -> Result<(Header, Event<'a>), Problem> {
    let header = parts.header.ok_or(Problem::NoFormat)?;
    let images = window.data().get(..len).unwrap_or_default();
    let rows = decoder.rows_part(header.event_type, &parts.head, images)?;
    Ok((header, Event::Rows(rows.part(parts.before, parts.last))))
}
