//! What bad input gets: refused with a reason, counted, said once; nothing of it is passed on; the rest undisturbed.
//!
//! | line of the promise | here, with processes | and in `src/`, case by case |
//! |---|---|---|
//! | wrong config: all its errors, exit 2 | `input::a_wrong_config…` | `config::tests`, `cli::tests` |
//! | JSON broken, too deep, too big: 400, 413, nothing stored | `input::a_bad_body…` | `source::http::tests::bad_requests_are_refused_and_nothing_is_stored` |
//! | a row larger than any frame: 413 | `input::a_row_larger_than_any_frame…` | `spool::tests::basic::a_row_that_fits_no_body_is_refused_and_leaves_no_trace` |
//! | malformed MQTT; a clean DISCONNECT is none | `peer::broken_mqtt…`, `servers::quic` | `mqtt::codec::tests::malformed_packets…`, `mqtt::server::tests::violations…`, `devices::tests::hostile` |
//! | malformed QUIC | `peer::garbage_before_any_handshake…` | quinn's own |
//! | a frame with a bad checksum, an unknown version, a bomb | `peer::a_bad_frame…` | `devices::tests::hostile::every_bad_frame…`, `frame::tests` |
//! | wrong CA, expired or foreign certificate | `certificates` | `link::tests::{a_foreign_ca…, an_expired_certificate…}`, `devices::tests::listener::who_has_no_good_certificate…` |
//! | a device that publishes as another | `peer::a_device_that_publishes_as_another…` | `devices::tests::session::a_device_publishes_and_subscribes_only_as_itself` |
//! | a frame too large for the peer: split; refused for good: kept aside | `frames` | `sink::centre::tests::session::{a_frame_too_large…, a_row_too_large…, refused_for_good…}` |
//! | a full disk | `disk::a_full_disk…` | `sink::file::tests::a_full_disk…`, `spool::tests` |
//! | the stated policy when the buffer is full | `disk::what_a_full_buffer_gives_up…` | `spool::tests` |
//! | a corrupt buffer file | `disk::a_damaged_buffer…` | `spool::tests` |

mod certificates;
mod disk;
mod frames;
mod input;
mod peer;
