use super::super::error::Malformed;
use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "c0dec0de-0097-11ee-8000-0242ac110097";

fn set(text: &str) -> MySqlGtidSet {
    text.parse().unwrap()
}

#[test]
fn sets_are_normalised_as_the_manual_says() {
    for (text, normal) in [
        (format!("{A}:1-3:11:47-49"), format!("{A}:1-3:11:47-49")),
        (format!("{A}:1-3:4-5 , {A}:7:6"), format!("{A}:1-7")),
        (format!("{B}:5,{A}:1"), format!("{A}:1,{B}:5")),
        (format!("{}:1", A.to_uppercase()), format!("{A}:1")),
        (format!("{A}:1-3:Foo:7:bar_1:1-2:3"), format!("{A}:1-3:bar_1:1-3:foo:7")),
        (String::new(), String::new()),
    ] {
        assert_eq!(set(&text).to_string(), normal);
        assert_eq!(set(&normal), set(&text));
    }
}

#[test]
fn what_is_no_set_is_refused() {
    for text in
        ["1", "x:1", A, &format!("{A}:0"), &format!("{A}:5-3"), &format!("{A}:1-"), &format!("{A}0:1")]
    {
        assert!(text.parse::<MySqlGtidSet>().is_err(), "{text}");
    }
    for text in ["1-2", "1-2-3-4", "a-1-1", "1-1-", "-1-1-1", "+1-1-1"] {
        assert!(text.parse::<MariaDbGtidSet>().is_err(), "{text}");
    }
}

#[test]
fn contains_and_merge() {
    let mut a = set(&format!("{A}:1-3:10-20:t:5"));
    let one = |text: String| text.parse::<MySqlGtid>().unwrap();
    assert!(a.contains(&one(format!("{A}:3"))) && a.contains(&one(format!("{A}:10"))));
    assert!(!a.contains(&one(format!("{A}:4"))) && !a.contains(&one(format!("{A}:t:4"))));
    assert!(a.contains(&one(format!("{A}:t:5"))) && !a.contains(&one(format!("{B}:1"))));
    assert_eq!(a.count(), 15);
    assert!(!a.contains_set(&set(&format!("{A}:2-11"))));
    a.merge(&set(&format!("{A}:4-9,{B}:1")));
    assert_eq!(a.to_string(), format!("{A}:1-20:t:5,{B}:1"));
    assert!(a.contains_set(&set(&format!("{A}:2-11"))));
    assert_eq!(one(format!("{A}:t:5")).to_string(), format!("{A}:t:5"));
}

#[test]
fn previous_gtids_of_both_formats() {
    let uuid = set(&format!("{A}:1")).ranges().next().unwrap().0;
    let mut plain = 1u64.to_le_bytes().to_vec();
    plain.extend(uuid);
    plain.extend(2u64.to_le_bytes());
    for n in [1u64, 4, 11, 12] {
        plain.extend(n.to_le_bytes());
    }
    assert_eq!(MySqlGtidSet::decode(&plain).unwrap().to_string(), format!("{A}:1-3:11"));
    let mut tagged = (1u64 << 56 | 2 << 8 | 1).to_le_bytes().to_vec();
    for tag in ["", "foo"] {
        tagged.extend(uuid);
        tagged.push((tag.len() * 2) as u8);
        tagged.extend(tag.as_bytes());
        tagged.extend(1u64.to_le_bytes());
        tagged.extend(1u64.to_le_bytes());
        tagged.extend(3u64.to_le_bytes());
    }
    assert_eq!(MySqlGtidSet::decode(&tagged).unwrap().to_string(), format!("{A}:1-2:foo:1-2"));
    for raw in [&plain, &tagged] {
        for cut in 0..raw.len() {
            assert!(MySqlGtidSet::decode(&raw[..cut]).is_err());
        }
    }
    // A count of 2^48 makes no memory.
    let huge = (0x0000_ffff_ffff_ffffu64).to_le_bytes();
    assert_eq!(MySqlGtidSet::decode(&huge), Err(Malformed::Ends("a uuid")));
}

#[test]
fn ranges_that_come_backwards_are_sorted_first() {
    // One by one, each before all others, they took minutes.
    const RANGES: u64 = 400_000;
    let mut body = 1u64.to_le_bytes().to_vec();
    body.extend([7; 16]);
    body.extend(RANGES.to_le_bytes());
    for n in (1..=RANGES).rev() {
        body.extend((n * 3).to_le_bytes());
        body.extend((n * 3 + 1).to_le_bytes());
    }
    let set = MySqlGtidSet::decode(&body).unwrap();
    assert_eq!(set.count(), RANGES);
    let gtid = |number| MySqlGtid { uuid: [7; 16], tag: Tag::default(), number };
    assert!(set.contains(&gtid(3)) && set.contains(&gtid(RANGES * 3)) && !set.contains(&gtid(4)));
}

#[test]
fn mariadbs_positions() {
    let mut a: MariaDbGtidSet = "1-2-100, 0-1-42".parse().unwrap();
    assert_eq!(a.to_string(), "0-1-42,1-2-100");
    assert!(a.contains(&"0-9-42".parse().unwrap()) && !a.contains(&"0-1-43".parse().unwrap()));
    assert!(!a.contains(&"2-1-1".parse().unwrap()));
    a.merge(&"0-3-43,1-2-5".parse().unwrap());
    assert_eq!(a.to_string(), "0-3-43,1-2-100");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_set_holds_exactly_what_was_added(numbers in proptest::collection::vec(1u64..60, 0..80)) {
        let (mut set, uuid) = (MySqlGtidSet::new(), [7; 16]);
        for &n in &numbers {
            set.add_range(uuid, Tag::default(), n, n + n % 4);
        }
        let model: std::collections::BTreeSet<u64> = numbers.iter().flat_map(|&n| n..=n + n % 4).collect();
        for number in 1..70 {
            let gtid = MySqlGtid { uuid, tag: Tag::default(), number };
            proptest::prop_assert_eq!(set.contains(&gtid), model.contains(&number));
        }
        proptest::prop_assert_eq!(set.count(), model.len() as u64);
        proptest::prop_assert_eq!(set.to_string().parse::<MySqlGtidSet>().unwrap(), set);
    }
}

#[test]
fn what_is_encoded_is_what_was_read() {
    for text in [
        "",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:9",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:night:1-3:7,3e11fa47-71ca-11e1-9e33-c80aa9429563:4",
    ] {
        let set: MySqlGtidSet = text.parse().unwrap();
        assert_eq!(MySqlGtidSet::decode(&set.encode()), Ok(set), "{text}");
    }
}
