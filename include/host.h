/* What the plugin needs of Eclipse Mosquitto. This is the one header that bindgen reads.
 *
 * The types are Mosquitto's own (Debian packages mosquitto-dev, libmosquitto-dev). What only 2.1 has is declared here,
 * so that one shared object, built with the headers of 2.0.11, serves 2.0.11, 2.0.21 and 2.1.2. */
#ifndef MOSQUITTO_AUTH0_HOST_H
#define MOSQUITTO_AUTH0_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

/* An event of 2.1 (include/mosquitto/broker.h, enum mosquitto_plugin_event): a client whose
 * session is kept went away. 2.0 answers its registration with MOSQ_ERR_NOT_SUPPORTED. */
#define MOSQUITTO_AUTH0_EVT_CLIENT_OFFLINE 28

/* MQTT 5 reason codes that 2.1 accepts as a basic-auth result and passes on in the CONNACK
 * (include/mosquitto/defs.h). To a 2.0 broker they are unknown codes: it hangs up. */
#define MOSQUITTO_AUTH0_ERR_BAD_USERNAME_OR_PASSWORD 134
#define MOSQUITTO_AUTH0_ERR_SERVER_UNAVAILABLE 136
#define MOSQUITTO_AUTH0_ERR_SERVER_BUSY 137
#define MOSQUITTO_AUTH0_ERR_BANNED 138

/* A basic-auth result of 2.1: the answer comes later, by mosquitto_complete_basic_auth(). */
#define MOSQUITTO_AUTH0_ERR_AUTH_DELAYED (-5)

#define MOSQUITTO_AUTH0_ERR_AUTH_CONTINUE (-4)
#define MOSQUITTO_AUTH0_ERR_SUCCESS 0
#define MOSQUITTO_AUTH0_ERR_INVAL 3
#define MOSQUITTO_AUTH0_ERR_NOT_SUPPORTED 10
#define MOSQUITTO_AUTH0_ERR_AUTH 11
#define MOSQUITTO_AUTH0_ERR_ACL_DENIED 12
#define MOSQUITTO_AUTH0_ERR_UNKNOWN 13
#define MOSQUITTO_AUTH0_ERR_PLUGIN_DEFER 17
#define MOSQUITTO_AUTH0_ERR_ALREADY_EXISTS 31

/* The broker's functions. A member is NULL where the running broker does not have it: the
 * references behind this table are weak, so no symbol can be missing when we are loaded. */
struct mosquitto_auth0_host {
	int (*callback_register)(mosquitto_plugin_id_t *, int, MOSQ_FUNC_generic_callback, const void *, void *);
	const char *(*client_address)(const struct mosquitto *);
	bool (*client_clean_session)(const struct mosquitto *);
	const char *(*client_id)(const struct mosquitto *);
	int (*client_protocol)(const struct mosquitto *);
	int (*client_protocol_version)(const struct mosquitto *);
	int (*client_sub_count)(const struct mosquitto *);
	const char *(*client_username)(const struct mosquitto *);
	int (*set_username)(struct mosquitto *, const char *);
	int (*kick_client_by_clientid)(const char *, bool);
	int (*pub_topic_check)(const char *);
	int (*broker_publish)(const char *, const char *, int, void *, int, bool, mosquitto_property *);
	void *(*malloc)(size_t);
	void (*free)(void *);

	/* A broker with TLS only */
	void *(*client_certificate)(const struct mosquitto *);

	/* 2.1 only */
	int (*client_port)(const struct mosquitto *);
	struct mosquitto *(*client)(const char *client_id);
	int (*subscription_delete)(const char *client_id, const char *filter);
	void (*complete_basic_auth)(const char *client_id, int result);
};

struct mosquitto_auth0_host mosquitto_auth0_host(void);

/* mosquitto_log_printf(level, "%s", message); does nothing where the broker has no log. */
void mosquitto_auth0_log(int level, const char *message);

/* The password's length where the broker tells it (2.1.3 and later), else 0. */
uint16_t mosquitto_auth0_password_length(const struct mosquitto_evt_basic_auth *event);

/* The certificate of a TLS client in DER, to be given back to mosquitto_auth0_certificate_free(); its
 * length, or 0 if there is none or the broker's process has no OpenSSL. */
size_t mosquitto_auth0_certificate(const struct mosquitto *client, unsigned char **der);
void mosquitto_auth0_certificate_free(unsigned char *der);
/* Whether it ever has one. */
bool mosquitto_auth0_tells_certificates(void);

/* A callback that calls this one, and notes who called it. For one callback. */
MOSQ_FUNC_generic_callback mosquitto_auth0_noting_caller(MOSQ_FUNC_generic_callback callback);

/* A place in the broker's code from which that callback was called: the address to which the callback returns, the
 * one to which its caller returns, and so on. */
#define MOSQUITTO_AUTH0_LEVELS 3
struct mosquitto_auth0_call_site {
	uintptr_t returns_to[MOSQUITTO_AUTH0_LEVELS];
	/* Where each of them lay on the stack, counted from the callback's frame. 0 where that cannot be told. */
	uintptr_t offsets[MOSQUITTO_AUTH0_LEVELS];
	/* How many of them are known. Fewer where the broker was built without unwind tables. */
	size_t levels;
};

/* The call site of the current call. It unwinds the stack, which takes microseconds. Only inside that callback. */
struct mosquitto_auth0_call_site mosquitto_auth0_called_from(void);

/* Whether this is the call site of the current call, judged by so many levels. It reads that from the stack, which
 * takes nanoseconds. Where it cannot tell, it says no. Only inside that callback. */
bool mosquitto_auth0_is_called_from(const struct mosquitto_auth0_call_site *site, size_t levels);

#endif
