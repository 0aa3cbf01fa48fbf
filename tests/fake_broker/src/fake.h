/* The broker's functions for a plugin, and controls for tests.
 *
 * One process is one broker. If the plugin does something that would damage a real broker, the process
 * aborts: see fake_violation. */
#ifndef FAKE_H
#define FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

enum fake_release { FAKE_2_0_11, FAKE_2_0_21, FAKE_2_1_2 };

/* 2.1 only (include/mosquitto/broker.h there). */
#define FAKE_EVT_CLIENT_OFFLINE 28

/* A client before it connects. Strings are copied; NULL stands for an empty field, as in a broker. */
struct fake_spec {
	const char *id;
	const char *username;
	const char *password;
	const char *address;
	const char *will;         /* the will's topic */
	const char *subscription; /* a filter that it is subscribed to */
	const char *queued;       /* a topic of which a message is queued while it is absent */
	int protocol_version;
	int listener;
	uint16_t password_len;    /* the length in 2.1.3's basic-auth event, otherwise 0 */
	bool clean_start;
	bool kept;                /* its session outlives its connection */
	bool websocket;           /* 2.0: its disconnect event after a takeover comes one iteration late */
};

/* A call of the plugin, and its result. */
struct fake_answer {
	const struct mosquitto *client;
	int event;
	int access;
	int code;
	char topic[116];
};

/* A message to one client. */
struct fake_message {
	char *client_id;
	char *topic;
	char *payload; /* ends with a NUL */
};

void fake_start(int release);
void fake_violation(const char *what);

mosquitto_plugin_id_t *fake_identifier(int listener);
void fake_refuse_event(int event, int code);
void fake_set_username_result(int code);
void fake_set_clock(long seconds);
void fake_log_to_topic(bool on);
void fake_unregister(const mosquitto_plugin_id_t *identifier);
void fake_log_init_failure(int code);

struct mosquitto *fake_client_new(const struct fake_spec *spec);
void fake_client_refill(struct mosquitto *client, const struct fake_spec *spec);
struct mosquitto *fake_client_restored(const char *id, const char *username, const char *subscription);

int fake_raw(int listener, int event, void *data);
int fake_raw_userdata(int listener, int event, void *data, void *userdata);
int fake_basic_auth(struct mosquitto *client);
int fake_connect(struct mosquitto *client);
int fake_start_connect(struct mosquitto *client);
int fake_connect_by(struct mosquitto *client, const char *method, const void *data, size_t length);
int fake_auth(struct mosquitto *client, int reason, const void *data, size_t length);
size_t fake_auth_data(char *data, size_t most);
void fake_hang_up(struct mosquitto *client);
int fake_acl(struct mosquitto *client, int access, const char *topic);
int fake_retain_source(const struct mosquitto *source, const char *topic);
int fake_http_api(const char *username, const char *password, bool acl);
void fake_disconnect(struct mosquitto *client, bool with_will);
bool fake_control(struct mosquitto *client, const char *topic, const void *payload, size_t length);
void fake_expire(struct mosquitto *client);
void fake_tick(void);
int fake_reload(void);
void fake_sighup(void);

int fake_state(const struct mosquitto *client); /* 0 new, 1 connected, 2 offline, 3 gone */
const char *fake_username(const struct mosquitto *client);
size_t fake_registered(int listener, int event);
size_t fake_log_count(void);
const char *fake_log_line(size_t index, int *level);
size_t fake_answer_count(void);
const struct fake_answer *fake_answer_at(size_t index);
size_t fake_message_count(void);
const struct fake_message *fake_message_at(size_t index);

/* How many retained messages were published, and the payload of one that is kept; NULL if there is none. */
size_t fake_retained_published(void);
const char *fake_retained(const char *topic);
size_t fake_kick_count(void);
size_t fake_log_depth(void);

struct mosquitto *fake_by_id(const char *id);
void fake_complete(const char *id, int result);

/* The reason codes of a client's AUTH packets. Without content, it is 0. */
#define FAKE_CONTINUE 0x18
#define FAKE_REAUTHENTICATE 0x19

/* 2.1: the answer to a CONNECT is delayed. */
#define FAKE_ERR_AUTH_DELAYED (-5)

#endif
