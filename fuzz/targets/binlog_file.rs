#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dts::fuzzing::binlog_file(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    dts::fuzzing::binlog_file_mutate(data, size, max_size, seed, &mut libfuzzer_sys::fuzzer_mutate)
});
