//! librdkafka, as far as this sink uses it. All its unsafe code is here.
//!
//! Handles are used from several threads at a time, which librdkafka allows (rdkafka.h: "the API is thread-safe").

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka_sys as rd;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

/// A message as librdkafka takes it. Its payload and key stand in a buffer that outlives it.
pub(super) type Raw = rd::rd_kafka_message_t;

/// No message.
pub(super) fn empty() -> Raw {
    Raw {
        err: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: 0,
        payload: ptr::null_mut(),
        len: 0,
        key: ptr::null_mut(),
        key_len: 0,
        offset: 0,
        _private: ptr::null_mut(),
    }
}

/// An error of librdkafka or of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) text: String,
}

impl Failure {
    fn of(code: Code) -> Self {
        // SAFETY: a static string for every code.
        let text = unsafe { text(rd::rd_kafka_err2str(code)) };
        Self { code, text }
    }
}

/// What librdkafka tells.
pub(super) trait Reports {
    /// The message with this number is durable, or will never be.
    fn delivered(&mut self, number: usize, failed: Option<Code>);
    /// Something went wrong that is no message's own; after a fatal one the producer takes no more messages.
    fn failed(&mut self, failure: Failure, is_fatal: bool);
    /// A line for the log; `level` as syslog's.
    fn log(&mut self, level: i32, text: &str);
}

/// A producer, or in tests a consumer.
#[derive(Debug)]
pub(super) struct Client {
    rk: *mut rd::rd_kafka_t,
    queue: *mut rd::rd_kafka_queue_t,
    /// Written to by librdkafka: open as long as it lives.
    wake: Option<Arc<OwnedFd>>,
}

// SAFETY: see the module.
unsafe impl Send for Client {}
// SAFETY: see the module.
unsafe impl Sync for Client {}

/// `s` is a C string or null.
unsafe fn text(s: *const c_char) -> String {
    if s.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

fn c(s: &str) -> CString {
    CString::new(s.replace('\0', "")).unwrap_or_default()
}

/// A number of 8 bytes, as an eventfd takes it.
static ONE: u64 = 1;

impl Client {
    /// A producer with these settings. `wake`, an eventfd, becomes readable when there are reports.
    pub(super) fn producer(settings: &[(&str, String)], wake: Arc<OwnedFd>) -> Result<Self, String> {
        Self::new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, settings, Some(wake))
    }

    pub(super) fn new(
        kind: rd::rd_kafka_type_t,
        settings: &[(&str, String)],
        wake: Option<Arc<OwnedFd>>,
    ) -> Result<Self, String> {
        let mut error = [0 as c_char; 512];
        // SAFETY: the conf is ours until rd_kafka_new takes it; strings live through each call.
        unsafe {
            let conf = rd::rd_kafka_conf_new();
            for (name, value) in settings {
                let (name, value) = (c(name), c(value));
                let set = rd::rd_kafka_conf_set(
                    conf,
                    name.as_ptr(),
                    value.as_ptr(),
                    error.as_mut_ptr(),
                    error.len(),
                );
                if set != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                    rd::rd_kafka_conf_destroy(conf);
                    return Err(text(error.as_ptr()));
                }
            }
            if wake.is_some() {
                let events = rd::RD_KAFKA_EVENT_DR | rd::RD_KAFKA_EVENT_ERROR | rd::RD_KAFKA_EVENT_LOG;
                rd::rd_kafka_conf_set_events(conf, events);
            }
            let rk = rd::rd_kafka_new(kind, conf, error.as_mut_ptr(), error.len());
            if rk.is_null() {
                rd::rd_kafka_conf_destroy(conf);
                return Err(text(error.as_ptr()));
            }
            let queue = rd::rd_kafka_queue_get_main(rk);
            if let Some(wake) = &wake {
                rd::rd_kafka_set_log_queue(rk, queue);
                let one: *const u64 = &ONE;
                rd::rd_kafka_queue_io_event_enable(queue, wake.as_raw_fd(), one.cast(), 8);
            }
            Ok(Self { rk, queue, wake })
        }
    }

    /// Wakes who hears the reports: librdkafka only does when its queue was empty, and there may be something already.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            rustix::io::write(wake, &ONE.to_ne_bytes()).ok();
        }
    }

    #[cfg(test)]
    pub(super) fn raw(&self) -> *mut rd::rd_kafka_t {
        self.rk
    }

    /// Tells everything that there is to be told; does not wait.
    pub(super) fn serve(&self, to: &mut impl Reports) {
        loop {
            // SAFETY: the event is ours until it is destroyed; what it lends is used before.
            unsafe {
                let event = rd::rd_kafka_queue_poll(self.queue, 0);
                if event.is_null() {
                    return;
                }
                match rd::rd_kafka_event_type(event) as i32 {
                    rd::RD_KAFKA_EVENT_DR => loop {
                        let message = rd::rd_kafka_event_message_next(event);
                        let Some(message) = message.as_ref() else { break };
                        let failed = (message.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(message.err);
                        to.delivered(message._private as usize, failed);
                    },
                    rd::RD_KAFKA_EVENT_ERROR => {
                        let code = rd::rd_kafka_event_error(event);
                        let text = text(rd::rd_kafka_event_error_string(event));
                        let is_fatal = rd::rd_kafka_event_error_is_fatal(event) != 0;
                        to.failed(Failure { code, text }, is_fatal);
                    }
                    rd::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                        if rd::rd_kafka_event_log(event, &mut facility, &mut line, &mut level) == 0 {
                            to.log(level, &text(line));
                        }
                    }
                    _ => {}
                }
                rd::rd_kafka_event_destroy(event);
            }
        }
    }

    /// Makes every message that is not yet durable be reported as failed.
    pub(super) fn purge(&self) {
        let all =
            rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT | rd::RD_KAFKA_PURGE_F_NON_BLOCKING;
        // SAFETY: the handle lives.
        unsafe { rd::rd_kafka_purge(self.rk, all) };
    }

    /// How many brokers are known, and which one told. Blocks.
    pub(super) fn brokers(&self, limit: Duration) -> Result<(usize, String), Failure> {
        self.metadata(ptr::null_mut(), limit, |found| {
            // SAFETY: lent by the metadata, which lives through this call.
            let name = unsafe { text(found.orig_broker_name) };
            Ok((usize::try_from(found.broker_cnt).unwrap_or(0), name))
        })
    }

    fn metadata<T>(
        &self,
        topic: *mut rd::rd_kafka_topic_t,
        limit: Duration,
        read: impl FnOnce(&rd::rd_kafka_metadata) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut found = ptr::null();
        // SAFETY: `found` is ours after success, and destroyed.
        unsafe {
            let code = rd::rd_kafka_metadata(self.rk, 0, topic, &mut found, millis(limit));
            let (Code::RD_KAFKA_RESP_ERR_NO_ERROR, Some(metadata)) = (code, found.as_ref()) else {
                return Err(Failure::of(code));
            };
            let read = read(metadata);
            rd::rd_kafka_metadata_destroy(found);
            read
        }
    }

    /// Creates a topic. Blocks. That it exists already is no failure.
    pub(super) fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        config: &[(&str, &str)],
        limit: Duration,
    ) -> Result<(), Failure> {
        let mut error = [0 as c_char; 512];
        // SAFETY: everything made here is destroyed here.
        unsafe {
            let topic = rd::rd_kafka_NewTopic_new(
                c(name).as_ptr(),
                partitions,
                replication,
                error.as_mut_ptr(),
                error.len(),
            );
            if topic.is_null() {
                let code = Code::RD_KAFKA_RESP_ERR__INVALID_ARG;
                return Err(Failure { code, text: text(error.as_ptr()) });
            }
            for (key, value) in config {
                rd::rd_kafka_NewTopic_set_config(topic, c(key).as_ptr(), c(value).as_ptr());
            }
            let queue = rd::rd_kafka_queue_new(self.rk);
            let mut topics = [topic];
            rd::rd_kafka_CreateTopics(self.rk, topics.as_mut_ptr(), 1, ptr::null(), queue);
            let event = rd::rd_kafka_queue_poll(queue, millis(limit));
            let result = if event.is_null() {
                Err(Failure::of(Code::RD_KAFKA_RESP_ERR__TIMED_OUT))
            } else {
                let whole = rd::rd_kafka_event_error(event);
                if whole != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    Err(Failure { code: whole, text: text(rd::rd_kafka_event_error_string(event)) })
                } else {
                    let mut count = 0;
                    let results = rd::rd_kafka_event_CreateTopics_result(event);
                    let results = rd::rd_kafka_CreateTopics_result_topics(results, &mut count);
                    if count == 0 {
                        Err(Failure::of(Code::RD_KAFKA_RESP_ERR__FAIL))
                    } else {
                        match rd::rd_kafka_topic_result_error(*results) {
                            Code::RD_KAFKA_RESP_ERR_NO_ERROR
                            | Code::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS => Ok(()),
                            code => {
                                let text = text(rd::rd_kafka_topic_result_error_string(*results));
                                Err(Failure { code, text })
                            }
                        }
                    }
                }
            };
            if !event.is_null() {
                rd::rd_kafka_event_destroy(event);
            }
            rd::rd_kafka_queue_destroy(queue);
            rd::rd_kafka_NewTopic_destroy(topic);
            result
        }
    }
}

fn millis(limit: Duration) -> c_int {
    c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX)
}

impl Drop for Client {
    fn drop(&mut self) {
        self.purge();
        // SAFETY: topics hold the client, so there is none left; after this no thread of librdkafka runs.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue);
            rd::rd_kafka_destroy(self.rk);
        }
    }
}

/// A topic to produce to.
#[derive(Debug)]
pub(super) struct Topic {
    rkt: *mut rd::rd_kafka_topic_t,
    client: Arc<Client>,
}

impl Topic {
    pub(super) fn new(client: &Arc<Client>, name: &str) -> Result<Self, Failure> {
        // SAFETY: the client lives as long as the topic, which holds it.
        let rkt = unsafe { rd::rd_kafka_topic_new(client.rk, c(name).as_ptr(), ptr::null_mut()) };
        if rkt.is_null() {
            return Err(Failure::of(Code::RD_KAFKA_RESP_ERR__INVALID_ARG));
        }
        Ok(Self { rkt, client: client.clone() })
    }

    /// How many partitions it has, as a broker says. Blocks.
    pub(super) fn partitions(&self, limit: Duration) -> Result<i32, Failure> {
        self.client.metadata(self.rkt, limit, |found| {
            // SAFETY: `topic_cnt` entries, lent by the metadata.
            let topic = unsafe { (found.topic_cnt > 0).then(|| &*found.topics) };
            match topic {
                None => Err(Failure::of(Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)),
                Some(topic) if topic.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR => Err(Failure::of(topic.err)),
                Some(topic) if topic.partition_cnt < 1 => {
                    Err(Failure::of(Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE))
                }
                Some(topic) => Ok(topic.partition_cnt),
            }
        })
    }

    /// Hands messages over, in their order; says how many were taken. What was not taken ([`is_taken`]) is not reported
    /// either. Blocks while the queue is full. With `headers` the field `offset` is the schema's version, below 0 none.
    ///
    /// The payloads must stay where they are until their messages are reported or the client is dropped: parcels in
    /// [`super::flight`] do. Keys and headers are copied.
    pub(super) fn hand_over(&self, partition: i32, messages: &mut [Raw], headers: bool) -> usize {
        if headers {
            return self.one_by_one(partition, messages);
        }
        let count = c_int::try_from(messages.len()).unwrap_or(c_int::MAX);
        let flags = rd::RD_KAFKA_MSG_F_BLOCK;
        // SAFETY: as said above.
        let good =
            unsafe { rd::rd_kafka_produce_batch(self.rkt, partition, flags, messages.as_mut_ptr(), count) };
        usize::try_from(good).unwrap_or(0)
    }

    fn one_by_one(&self, partition: i32, messages: &mut [Raw]) -> usize {
        use rd::rd_kafka_vtype_t as V;
        let kinds = [
            V::RD_KAFKA_VTYPE_RKT,
            V::RD_KAFKA_VTYPE_PARTITION,
            V::RD_KAFKA_VTYPE_MSGFLAGS,
            V::RD_KAFKA_VTYPE_VALUE,
            V::RD_KAFKA_VTYPE_KEY,
            V::RD_KAFKA_VTYPE_OPAQUE,
            V::RD_KAFKA_VTYPE_HEADER,
        ];
        let mut args =
            kinds.map(|vtype| rd::rd_kafka_vu_t { vtype, u: rd::rd_kafka_vu_s__bindgen_ty_1 { i64_: 0 } });
        let [topic, to, flags, ..] = &mut args;
        topic.u.rkt = self.rkt;
        to.u.i32_ = partition;
        flags.u.i = rd::RD_KAFKA_MSG_F_BLOCK;
        let mem = |ptr, size| rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size };
        let mut version = (-1, String::new());
        let mut good = 0;
        for message in messages {
            if message.offset != version.0 {
                version = (message.offset, message.offset.to_string());
            }
            let [_, _, _, value, key, opaque, header] = &mut args;
            value.u.mem = mem(message.payload, message.len);
            key.u.mem = mem(message.key, message.key_len);
            opaque.u.ptr = message._private;
            header.u.header = rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 {
                name: SCHEMA.as_ptr(),
                val: version.1.as_ptr().cast(),
                size: isize::try_from(version.1.len()).unwrap_or(0),
            };
            let count = args.len() - usize::from(message.offset < 0);
            // SAFETY: as said above; the error is ours.
            unsafe {
                let error = rd::rd_kafka_produceva(self.client.rk, args.as_ptr(), count);
                if error.is_null() {
                    good += 1;
                    message.err = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
                } else {
                    message.err = rd::rd_kafka_error_code(error);
                    rd::rd_kafka_error_destroy(error);
                }
            }
        }
        good
    }
}

/// The header with the version of the table's schema.
const SCHEMA: &CStr = c"dts-schema";

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: ours, and the client still lives.
        unsafe { rd::rd_kafka_topic_destroy(self.rkt) };
    }
}

/// The words for a code.
pub(super) fn words(code: Code) -> String {
    Failure::of(code).text
}

/// Whether a message was dropped because the producer was stopped, and not for its own sake.
pub(super) fn is_purged(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__PURGE_QUEUE
            | Code::RD_KAFKA_RESP_ERR__PURGE_INFLIGHT
            | Code::RD_KAFKA_RESP_ERR__FATAL
            | Code::RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE
            | Code::RD_KAFKA_RESP_ERR__DESTROY
    )
}

/// A pointer into a buffer, said as an offset until the buffer stands still.
pub(super) fn offset(at: usize) -> *mut c_void {
    ptr::without_provenance_mut(at)
}

/// The place in the buffer at `base` that an [`offset`] means, which is one more than it; 0 is nowhere.
pub(super) fn place(base: *const u8, offset: *mut c_void) -> *mut c_void {
    match offset.addr().checked_sub(1) {
        Some(at) => base.wrapping_add(at).cast_mut().cast(),
        None => ptr::null_mut(),
    }
}

/// Whether librdkafka took the message.
pub(super) fn is_taken(message: &Raw) -> bool {
    message.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Whether there is no such topic, or not yet.
pub(super) fn is_missing(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
            | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
    )
}

/// Whether dts may not do this.
pub(super) fn is_refused(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
            | Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
            | Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
    )
}

/// Whether a message is refused for what it is.
pub(super) fn is_own_fault(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
            | Code::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE
            | Code::RD_KAFKA_RESP_ERR_INVALID_RECORD
            | Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE
    )
}

/// The name of a code, as librdkafka's documentation has it.
pub(super) fn name(code: Code) -> &'static str {
    // SAFETY: a static string for every code.
    let name = unsafe { rd::rd_kafka_err2name(code) };
    if name.is_null() {
        return "";
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default()
}

/// Whether nobody is there to be talked to.
pub(super) fn is_away(code: Code) -> bool {
    matches!(code, Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
}
