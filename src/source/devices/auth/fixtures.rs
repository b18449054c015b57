//! Made by OpenSSL 3.0 and Python's hashlib, so that no code of ours signs what it checks.

/// `box-7` has the password `correct horse`, `box-8` has `other`.
pub(in crate::source::devices) const PASSWORDS: &str = "# comment\n\nbox-7:$7$101$AAECAwQFBgcICQoL$lp0Cm29zl+CI/RXyXDKvLye7OxM3OuE6RMzgXTX/f3imS/pFh2Ur7yarLDpKRUKpB0tOj6l0UrRv41zqxmD4tg==\nbox-8:$7$1000$AAECAwQFBgcICQoL$0k2/yzSQu5lP3Qj7hmgIIwOOTqPChUh8fgd8t38BZTATRoz9MCJiPZXGKUQkfa5Fl7NhaDBK8wjSSg9NyDAQog==\n";

/// Algorithm, public key, token: sub `box-7`, nbf 1000000000, exp 2000000000, aud `dts` and `other`.
pub(super) const TOKENS: [(&str, &str, &str); 3] = [
    (
        "EdDSA",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAEiPDoSqpddDt76QYStNfgML1TNXtwoshzZstQLX773U=\n-----END PUBLIC KEY-----\n",
        "eyJhbGciOiAiRWREU0EiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAiYm94LTciLCAiZXhwIjogMjAwMDAwMDAwMCwgIm5iZiI6IDEwMDAwMDAwMDAsICJhdWQiOiBbImR0cyIsICJvdGhlciJdfQ.rPd50SPSctRMs2BTAhvxVQuo7X-gIsyIcYltq8l1nJfG4ozpOclEDvy2eK9DFB2hjSzl52IMXfiQlcrzs94aBQ",
    ),
    (
        "ES256",
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwMz0SvG2A4K0U5CCA+F+V9sAnxh4\nAaAYT+gdn1UVLR1bqdXaSd3P0BbBrcXHVd1pSNt67l2WxxT2FPF6vbK0AA==\n-----END PUBLIC KEY-----\n",
        "eyJhbGciOiAiRVMyNTYiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAiYm94LTciLCAiZXhwIjogMjAwMDAwMDAwMCwgIm5iZiI6IDEwMDAwMDAwMDAsICJhdWQiOiBbImR0cyIsICJvdGhlciJdfQ.eiL91gley4CuYVCF5iH24WzoernewOf79DfMbaAQa0iPr4kcRmCZhtNX7QHrMxweAwoGNITxNwC_zqBKK7NFyA",
    ),
    (
        "RS256",
        "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAyIQTI3QGWHZHhTNm+SWb\nXDEEwafrgbtydJTMqpvPJHdqoN4pE7vnXMexa15lP1xIKDLUZythaMDXj9bdQX0w\nnzBhtJvNzkS2nJtV8Tn5GIFIH/Ox0f/cRy04JX+lgqxoyvxCj2Q4FyVy6PwNoEd2\nQlMcB2SnyuEP76p7Y3/4OXrYdN20DqiieRX6jGtyiJswGcQjkPCRURJ3vL9DvaPU\nBuugiMpHbBOHx9YrZZpvFWLjoDF0T/rFopVQ7lvOfvQgDT4TYOHrhoRfGNDxraz1\no/cpE0dMVP/3gbT++t0t/Oy3XEjZoAxZ0PEerhki97DrO7oYO19tVwTjTEQGmFa1\naQIDAQAB\n-----END PUBLIC KEY-----\n",
        "eyJhbGciOiAiUlMyNTYiLCAidHlwIjogIkpXVCJ9.eyJzdWIiOiAiYm94LTciLCAiZXhwIjogMjAwMDAwMDAwMCwgIm5iZiI6IDEwMDAwMDAwMDAsICJhdWQiOiBbImR0cyIsICJvdGhlciJdfQ.KeP172X2QNShyITJRQa6CcMxZiOFk8E6iz0Phgnb78KLlCtGGqRhup9OWrKWfVnOkF1QDRDqkvpWdhzSp7IVbCfzjy3eH1IxGbk4ii8wsVpvMYC3Lv4-0hKkolMmsn3tX-Tkb7H6i9MszJ65s7dj_xazJrfLnvyZQHmZ-MP4qGSnomLnyQ8bq9M1zX63ghI-DjyJJkb_CcPJ5mXgI243VBmdeQi8znUDn0JBqdbd-N270Dz8GR_Y2SSmQoN27kc2Sboy3lrvNzF4EKLuPGrrcAriQ0T3zAbO8tjLJ24pfiHp27tENtf0gDfRHA1pgz4Il_i1K4GHH_k3REw75XcVZw",
    ),
];

pub(super) const JWKS: &str = r#"{"keys": [{"kty": "RSA", "kid": "r", "n": "yIQTI3QGWHZHhTNm-SWbXDEEwafrgbtydJTMqpvPJHdqoN4pE7vnXMexa15lP1xIKDLUZythaMDXj9bdQX0wnzBhtJvNzkS2nJtV8Tn5GIFIH_Ox0f_cRy04JX-lgqxoyvxCj2Q4FyVy6PwNoEd2QlMcB2SnyuEP76p7Y3_4OXrYdN20DqiieRX6jGtyiJswGcQjkPCRURJ3vL9DvaPUBuugiMpHbBOHx9YrZZpvFWLjoDF0T_rFopVQ7lvOfvQgDT4TYOHrhoRfGNDxraz1o_cpE0dMVP_3gbT--t0t_Oy3XEjZoAxZ0PEerhki97DrO7oYO19tVwTjTEQGmFa1aQ", "e": "AQAB"}, {"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": "EiPDoSqpddDt76QYStNfgML1TNXtwoshzZstQLX773U"}, {"kty": "EC", "crv": "P-256", "x": "wMz0SvG2A4K0U5CCA-F-V9sAnxh4AaAYT-gdn1UVLR0", "y": "W6nV2kndz9AWwa3Fx1XdaUjbeu5dlscU9hTxer2ytAA"}, {"kty": "oct", "k": "AAAA"}]}"#;
