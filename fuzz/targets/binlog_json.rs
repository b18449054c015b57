#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dts::fuzzing::binlog_json(data));
