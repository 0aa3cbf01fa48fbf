//! Declarations of `fake.h` in Rust.

use std::ffi::{c_char, c_int, c_long, c_void};

/// `struct mosquitto`, whose members only the C part uses.
#[repr(C)]
pub struct ClientStruct {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct FakeSpec {
    pub id: *const c_char,
    pub username: *const c_char,
    pub password: *const c_char,
    pub address: *const c_char,
    pub will: *const c_char,
    pub subscription: *const c_char,
    pub queued: *const c_char,
    pub protocol_version: c_int,
    pub listener: c_int,
    pub password_len: u16,
    pub clean_start: bool,
    pub kept: bool,
    pub websocket: bool,
}

#[repr(C)]
pub struct FakeAnswer {
    pub client: *const ClientStruct,
    pub event: c_int,
    pub access: c_int,
    pub code: c_int,
    pub topic: [c_char; 116],
}

#[repr(C)]
pub struct FakeMessage {
    pub client_id: *const c_char,
    pub topic: *const c_char,
    pub payload: *const c_char,
}

/// `struct mosquitto_opt` (mosquitto_plugin.h).
#[repr(C)]
pub struct MosquittoOpt {
    pub key: *mut c_char,
    pub value: *mut c_char,
}

unsafe extern "C" {
    pub fn fake_start(release: c_int);
    pub fn fake_identifier(listener: c_int) -> *mut c_void;
    pub fn fake_refuse_event(event: c_int, code: c_int);
    pub fn fake_set_username_result(code: c_int);
    pub fn fake_set_clock(seconds: c_long);
    pub fn fake_log_to_topic(on: bool);
    pub fn fake_unregister(identifier: *const c_void);
    pub fn fake_log_init_failure(code: c_int);
    pub fn fake_client_new(spec: *const FakeSpec) -> *mut ClientStruct;
    pub fn fake_client_refill(client: *mut ClientStruct, spec: *const FakeSpec);
    pub fn fake_client_restored(
        id: *const c_char,
        username: *const c_char,
        subscription: *const c_char,
    ) -> *mut ClientStruct;
    pub fn fake_raw_userdata(
        listener: c_int,
        event: c_int,
        data: *mut c_void,
        userdata: *mut c_void,
    ) -> c_int;
    pub fn fake_raw(listener: c_int, event: c_int, data: *mut c_void) -> c_int;
    pub fn fake_basic_auth(client: *mut ClientStruct) -> c_int;
    pub fn fake_connect(client: *mut ClientStruct) -> c_int;
    pub fn fake_start_connect(client: *mut ClientStruct) -> c_int;
    pub fn fake_connect_by(
        client: *mut ClientStruct,
        method: *const c_char,
        data: *const c_void,
        length: usize,
    ) -> c_int;
    pub fn fake_auth(
        client: *mut ClientStruct,
        reason: c_int,
        data: *const c_void,
        length: usize,
    ) -> c_int;
    pub fn fake_auth_data(data: *mut c_char, most: usize) -> usize;
    pub fn fake_hang_up(client: *mut ClientStruct);
    pub fn fake_acl(client: *mut ClientStruct, access: c_int, topic: *const c_char) -> c_int;
    pub fn fake_retain_source(source: *const ClientStruct, topic: *const c_char) -> c_int;
    pub fn fake_http_api(username: *const c_char, password: *const c_char, acl: bool) -> c_int;
    pub fn fake_disconnect(client: *mut ClientStruct, with_will: bool);
    pub fn fake_control(
        client: *mut ClientStruct,
        topic: *const c_char,
        payload: *const c_void,
        length: usize,
    ) -> bool;
    pub fn fake_message_count() -> usize;
    pub fn fake_message_at(index: usize) -> *const FakeMessage;
    pub fn fake_retained_published() -> usize;
    pub fn fake_retained(topic: *const c_char) -> *const c_char;
    pub fn fake_expire(client: *mut ClientStruct);
    pub fn fake_tick();
    pub fn fake_reload() -> c_int;
    pub fn fake_sighup();
    pub fn fake_state(client: *const ClientStruct) -> c_int;
    pub fn fake_username(client: *const ClientStruct) -> *const c_char;
    pub fn fake_registered(listener: c_int, event: c_int) -> usize;
    pub fn fake_log_line(index: usize, level: *mut c_int) -> *const c_char;
    pub fn fake_log_count() -> usize;
    pub fn fake_answer_count() -> usize;
    pub fn fake_answer_at(index: usize) -> *const FakeAnswer;
    pub fn fake_kick_count() -> usize;
    pub fn fake_log_depth() -> usize;
}
