//! Config fields that are one of a few words.

/// Declares such a type and its [`Field`](crate::config::Field).
macro_rules! words {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $vdoc:literal])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $vdoc])* $variant,)* }

        impl $crate::config::Field for $name {
            fn read(node: &$crate::config::Node, cx: &mut $crate::config::Context) -> Option<Self> {
                match &node.kind {
                    $($crate::config::node::Kind::Scalar { text, .. } if text == $word => Some(Self::$variant),)*
                    _ => cx.expected(node, concat!("one of", $(" `", $word, "`"),*)),
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),*] })
            }
        }
    };
}
