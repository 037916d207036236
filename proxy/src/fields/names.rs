//! Names of fields that several parts of the proxy look for, from the registry of RFC 9110 section 18.4.

use super::Name;

macro_rules! names {
    ($($name:ident $text:literal)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: Name<'static> = Name::from_static($text);
        )*
    };
}

names! {
    ACCEPT_ENCODING "accept-encoding"
    ACCEPT_RANGES "accept-ranges"
    ACCESS_CONTROL_ALLOW_CREDENTIALS "access-control-allow-credentials"
    ACCESS_CONTROL_ALLOW_HEADERS "access-control-allow-headers"
    ACCESS_CONTROL_ALLOW_METHODS "access-control-allow-methods"
    ACCESS_CONTROL_ALLOW_ORIGIN "access-control-allow-origin"
    ACCESS_CONTROL_EXPOSE_HEADERS "access-control-expose-headers"
    ACCESS_CONTROL_MAX_AGE "access-control-max-age"
    ACCESS_CONTROL_REQUEST_HEADERS "access-control-request-headers"
    ACCESS_CONTROL_REQUEST_METHOD "access-control-request-method"
    ALLOW "allow"
    ALT_SVC "alt-svc"
    AUTHORIZATION "authorization"
    CACHE_CONTROL "cache-control"
    CONNECTION "connection"
    CONTENT_ENCODING "content-encoding"
    CONTENT_LENGTH "content-length"
    CONTENT_RANGE "content-range"
    CONTENT_TYPE "content-type"
    COOKIE "cookie"
    DATE "date"
    ETAG "etag"
    EXPECT "expect"
    FORWARDED "forwarded"
    HOST "host"
    IF_MATCH "if-match"
    IF_MODIFIED_SINCE "if-modified-since"
    IF_NONE_MATCH "if-none-match"
    IF_RANGE "if-range"
    IF_UNMODIFIED_SINCE "if-unmodified-since"
    LOCATION "location"
    ORIGIN "origin"
    PROXY_AUTHORIZATION "proxy-authorization"
    RANGE "range"
    REFERER "referer"
    RETRY_AFTER "retry-after"
    SEC_WEBSOCKET_ACCEPT "sec-websocket-accept"
    SEC_WEBSOCKET_KEY "sec-websocket-key"
    SEC_WEBSOCKET_VERSION "sec-websocket-version"
    SERVER "server"
    SET_COOKIE "set-cookie"
    TE "te"
    TRAILER "trailer"
    TRANSFER_ENCODING "transfer-encoding"
    UPGRADE "upgrade"
    USER_AGENT "user-agent"
    VARY "vary"
    WWW_AUTHENTICATE "www-authenticate"
}
