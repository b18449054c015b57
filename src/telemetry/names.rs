//! Every metric that dts has: its name, kind and help. A name that is not here is not counted (and
//! fails in tests).

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds, in buckets.
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// Name, kind, help. In the order in which `/metrics` shows them.
pub(super) static METRICS: &[(&str, Kind, &str)] = &[
    ("dts_build_info", Gauge, "1; its labels name the version and the features"),
    ("dts_start_time_seconds", Gauge, "Wall clock at the start, in seconds since 1970 UTC"),
    // The buffer.
    ("dts_spool_acked_rows_total", Counter, "Rows that left the buffer because the other side has them"),
    ("dts_spool_bytes", Gauge, "Bytes in the buffer, by lane"),
    ("dts_spool_disk_full", Gauge, "1 while the disk is full"),
    ("dts_spool_disk_full_total", Counter, "Times that the disk became full"),
    ("dts_spool_down", Gauge, "1 while the buffer cannot be used"),
    ("dts_spool_file_bytes", Gauge, "Bytes of the buffer's files"),
    ("dts_spool_forks_total", Counter, "Forks: the centre knew more of this buffer than it did itself"),
    ("dts_spool_io_errors_total", Counter, "Reads and writes of the buffer that failed"),
    ("dts_spool_oldest_seconds", Gauge, "Age of the oldest batch in the buffer, by lane"),
    ("dts_spool_rows", Gauge, "Rows in the buffer, by lane"),
    ("dts_spool_lost_rows_total", Counter, "Rows that the buffer gave up, by lane, reason and bound"),
    ("dts_spool_quarantined_total", Counter, "Damaged buffer files that were put aside"),
    // The pipeline.
    ("dts_source_rows_total", Counter, "Rows that a source handed on"),
    ("dts_source_bytes_total", Counter, "Bytes of row records that a source handed on"),
    ("dts_source_restarts_total", Counter, "Restarts of a source after an error that was worth a retry"),
    ("dts_source_dropped_rows_total", Counter, "Rows that a source read and had to drop, by reason"),
    ("dts_source_ended_total", Counter, "Sources that came to the end of their input"),
    ("dts_exec_failures_total", Counter, "Runs of an exec source's command that failed"),
    (
        "dts_mqtt_source_disconnects_total",
        Counter,
        "Connections to a broker that an mqtt source lost or did not get",
    ),
    (
        "dts_sqlite_busy_total",
        Counter,
        "Times that an application's database was locked when a sqlite source wanted it",
    ),
    ("dts_sqlite_captured_bytes", Gauge, "Bytes of captured changes in the application's file"),
    ("dts_sqlite_captured_rows_total", Counter, "Captured changes that a sqlite source fetched"),
    ("dts_sqlite_lost_rows_total", Counter, "Rows of a sqlite source that fit no frame"),
    ("dts_sqlite_rereads_total", Counter, "Tables that a sqlite source had to read again, by reason"),
    ("dts_sqlite_snapshot_rows_total", Counter, "Rows that a sqlite source read by snapshots"),
    (
        "dts_sqlite_values_left_out_total",
        Counter,
        "Values that a sqlite source left out because they fit no frame",
    ),
    (
        "dts_sqlite_waiting",
        Gauge,
        "1 while a sqlite source waits for its database to appear or to be readable",
    ),
    ("dts_mysql_connected", Gauge, "1 while a mysql-binlog source reads from its server"),
    (
        "dts_mysql_reconnects_total",
        Counter,
        "Connections to a server that a mysql-binlog source lost or did not get",
    ),
    (
        "dts_mysql_rolled_back_total",
        Counter,
        "Transactions that a binlog rolled back after rows of them were delivered",
    ),
    (
        "dts_mysql_unlogged_changes_total",
        Counter,
        "Changes of followed tables that no row of the binlog tells, by kind",
    ),
    ("dts_http_refused_total", Counter, "Requests that an http source refused, by status"),
    ("dts_sink_rows_total", Counter, "Rows that a sink confirmed durable"),
    ("dts_sink_bytes_total", Counter, "Bytes of row records that a sink confirmed durable"),
    ("dts_sink_writes_total", Counter, "Writes that a sink confirmed"),
    ("dts_sink_retries_total", Counter, "Writes that a sink has to try again"),
    ("dts_sink_write_seconds", Histogram, "Time of one write until it was durable"),
    ("dts_pipeline_in_flight_batches", Gauge, "Batches taken and not yet durable at every sink"),
    ("dts_pipeline_in_flight_bytes", Gauge, "Their bytes"),
    (
        "dts_event_latency_seconds",
        Histogram,
        "From when a row was made to when its sink has it, at the last row of a batch",
    ),
    ("dts_sink_absorbed_rows_total", Counter, "Rows that a sink had already, by key and version"),
    (
        "dts_sink_fenced_batches_total",
        Counter,
        "Batches that were refused: a newer session of their device, perhaps at another node, took over",
    ),
    ("dts_sink_http_request_seconds", Histogram, "Time of one request of an http sink"),
    ("dts_sink_http_requests_total", Counter, "Requests of an http sink, by status"),
    ("dts_sink_sync_failures_total", Counter, "fsyncs of a sink that failed"),
    ("dts_sink_torn_lines_total", Counter, "Unfinished last lines that a file sink found when it opened"),
    // The agent's way to the centre.
    ("dts_clock_bound_seconds", Gauge, "How far the device's clock may be off"),
    ("dts_clock_refused_total", Counter, "Time samples or peer times that were not adopted"),
    ("dts_link_rtt_seconds", Gauge, "Round trip time of the link in use"),
    ("dts_link_up", Gauge, "1 while a session is open, by transport"),
    ("dts_link_wire_bytes_total", Counter, "Bytes on the wire, by transport and direction"),
    ("dts_ship_bad_messages_total", Counter, "Messages from the centre that could not be read"),
    ("dts_ship_connections_total", Counter, "Sessions that were opened, by transport"),
    ("dts_ship_dial_failures_total", Counter, "Attempts to connect that failed, by transport and reason"),
    ("dts_ship_frames_resent_total", Counter, "Frames sent again"),
    ("dts_ship_frames_sent_total", Counter, "Frames sent"),
    (
        "dts_ship_latency_seconds",
        Histogram,
        "From when a row was made to its PUBACK, at the last row of a batch",
    ),
    ("dts_ship_oldest_unacked_seconds", Gauge, "Age of the oldest frame that waits for its PUBACK"),
    ("dts_ship_refused_total", Counter, "Frames that the centre refused, by reason"),
    ("dts_ship_restamped_epochs_total", Counter, "Epochs that were stamped anew after what the centre said"),
    ("dts_ship_round_trip_seconds", Histogram, "From sending a frame to its PUBACK"),
    ("dts_ship_rows_acked_total", Counter, "Rows that the centre has durably"),
    ("dts_ship_rows_sent_total", Counter, "Rows sent, again or not"),
    ("dts_ship_rows_set_aside_total", Counter, "Rows that the centre refused for good; kept aside"),
    ("dts_ship_sent_bytes_total", Counter, "Bytes of frames sent, compressed"),
    ("dts_ship_sessions_ended_total", Counter, "Sessions that ended, by reason"),
    ("dts_ship_splits_total", Counter, "Batches that were sent in parts"),
    // The centre's listener.
    (
        "dts_acked_elsewhere_total",
        Counter,
        "Sequence numbers that a device says were acknowledged by another node, or before this centre was restored",
    ),
    ("dts_connections", Gauge, "Open MQTT connections, by transport"),
    ("dts_connects_refused_total", Counter, "CONNECTs that were refused, by reason"),
    ("dts_connects_total", Counter, "CONNECTs that were accepted"),
    ("dts_devices_pending_bytes", Gauge, "Bytes taken from devices and not yet durable"),
    ("dts_disconnects_total", Counter, "Connections that ended, by reason"),
    ("dts_forks_total", Counter, "Forks found: two histories under one epoch (a cloned or restored device)"),
    ("dts_frame_rows_total", Counter, "Rows in frames that were taken"),
    ("dts_frame_wire_bytes_total", Counter, "Bytes of frames that were taken, compressed"),
    ("dts_frames_bad_total", Counter, "Frames that could not be read, by reason; their connection is closed"),
    ("dts_frames_cut_total", Counter, "Frames of which a part was durable already"),
    (
        "dts_frames_duplicate_total",
        Counter,
        "Frames that were sent again although they are durable or under way, and absorbed",
    ),
    ("dts_frames_refused_total", Counter, "Frames that were answered with a failure, by reason"),
    ("dts_frames_total", Counter, "Frames received"),
    ("dts_handshakes_failed_total", Counter, "TLS or QUIC handshakes that failed, by reason"),
    ("dts_handshakes_retried_total", Counter, "QUIC handshakes that had to prove their address"),
    ("dts_identity_conflicts_total", Counter, "Two live installations under one device name"),
    ("dts_loss_rows_total", Counter, "Rows that devices reported lost, by reason"),
    ("dts_messages_total", Counter, "Messages of plain MQTT clients that were taken"),
    ("dts_publishes_refused_total", Counter, "PUBLISHes that were refused, by reason"),
    ("dts_publishes_shed_total", Counter, "QoS 0 PUBLISHes that were dropped while busy"),
    ("dts_jwks_fetches_total", Counter, "Fetches of the keys of tokens, by result"),
    ("dts_jwks_keys", Gauge, "Keys of tokens that were fetched last"),
    ("dts_takeovers_total", Counter, "Connections that a newer one of the same device took over"),
];
