/* See fake.h. The order of events and the return codes are those of Mosquitto's sources. Where 2.0.11, 2.0.21
 * and 2.1.2 differ, `release` decides. */
#include "fake.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_LISTENERS 4
#define MAX_REGISTERED 64
#define MAX_CLIENTS 256
#define MAX_ANSWERS 65536
#define MAX_LINES 8192
#define MAX_MESSAGES 8192
#define MAX_RETAINED 256
/* As long as a real one, so that clients do not overlap (sizeof(struct mosquitto) in 2.0.11). */
#define CLIENT_BYTES 624

#define PLUGIN_IGNORE 32 /* 2.1 only */

enum state { ST_NEW, ST_CONNECTED, ST_OFFLINE, ST_GONE };

struct mosquitto_plugin_id_t {
	int listener;
};

struct mosquitto {
	char *id;
	char *username;
	char *password;
	char *address;
	char *will;
	char *subscription;
	char *queued;
	int protocol_version;
	int listener;
	uint16_t password_len;
	bool clean_start;
	bool kept;
	bool websocket;
	bool late_disconnect;
	bool freed;
	/* 2.1: its CONNECT waits for a delayed answer (mosq_cs_delayed_auth). */
	bool may_wait;
	bool waits;
	int verdict;
	/* Extended authentication: the method of its CONNECT, and whether an exchange is under way. */
	char *method;
	enum { NO_EXCHANGE, AUTHENTICATING, REAUTHENTICATING } exchange;
	enum state state;
};
_Static_assert(sizeof(struct mosquitto) <= CLIENT_BYTES, "a client");

struct registration {
	const mosquitto_plugin_id_t *identifier;
	int event;
	MOSQ_FUNC_generic_callback function;
	void *userdata;
	/* Of a control callback. */
	char topic[64];
	/* 2.1: the wall clock must be past this (src/plugin_tick.c). */
	struct timespec next_tick;
};

static enum fake_release release;
static pthread_t broker_thread;

static struct registration registered[MAX_LISTENERS][MAX_REGISTERED];
static size_t registered_count[MAX_LISTENERS];
static int refused_event, refused_code;
static int set_username_result;

static struct mosquitto *clients[MAX_CLIENTS];
static size_t client_count;

static struct fake_answer answers[MAX_ANSWERS];
static size_t answer_count;
static size_t kick_count;

static struct fake_message messages[MAX_MESSAGES];
static size_t message_count;

/* Retained messages: a topic is there once, and keeps its place. */
static struct fake_message retained[MAX_RETAINED];
static size_t retained_count;
static size_t retained_published;

static char *lines[MAX_LINES];
static int levels[MAX_LINES];
static size_t line_count;
static bool log_to_topic;
static size_t log_depth, log_depth_max;

static bool in_tick;
static time_t clock_ahead;


void fake_violation(const char *what)
{
	fprintf(stderr, "fake broker: %s\n", what);
	abort();
}

/* Mosquitto has no locks. */
static void on_broker_thread(const char *function)
{
	if(!pthread_equal(broker_thread, pthread_self())){
		fprintf(stderr, "%s: ", function);
		fake_violation("called on another thread than the broker's");
	}
}

static const struct mosquitto *living(const struct mosquitto *client, const char *function)
{
	on_broker_thread(function);
	if(client && client->freed){
		fprintf(stderr, "%s: ", function);
		fake_violation("called with a client that was freed");
	}
	return client;
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

/* A plugin that still uses the old text must notice. */
static void replace(char **field, char *with)
{
	if(*field){
		memset(*field, '?', strlen(*field));
		free(*field);
	}
	*field = with;
}


/* ---- functions for the plugin ---- */

static bool event_exists(int event)
{
	if(event == refused_event){
		return false;
	}
	if(event >= MOSQ_EVT_RELOAD && event <= MOSQ_EVT_DISCONNECT){
		return true;
	}
	return release == FAKE_2_1_2 && event > MOSQ_EVT_DISCONNECT && event <= 30;
}

/* One callback for each topic: in 2.0 of a listener, in 2.1 of the whole broker (src/control.c). */
static int register_control(mosquitto_plugin_id_t *identifier, MOSQ_FUNC_generic_callback function, const char *topic,
	void *userdata)
{
	struct registration made = {identifier, MOSQ_EVT_CONTROL, function, userdata, {0}, {0}};
	if(!topic || strncmp(topic, "$CONTROL/", 9) || strlen(topic) < 13 || strlen(topic) >= sizeof(made.topic)){
		return MOSQ_ERR_INVAL;
	}
	strcpy(made.topic, topic);
	int own = identifier->listener;
	for(int listener = 0; listener < MAX_LISTENERS; listener++){
		if(release != FAKE_2_1_2 && listener != own){
			continue;
		}
		for(size_t i = 0; i < registered_count[listener]; i++){
			if(!strcmp(registered[listener][i].topic, topic)){
				return MOSQ_ERR_ALREADY_EXISTS;
			}
		}
	}
	if(registered_count[own] == MAX_REGISTERED){
		fake_violation("too many callbacks");
	}
	registered[own][registered_count[own]++] = made;
	return MOSQ_ERR_SUCCESS;
}

/* Allocated by the plugin, and freed by the broker. */
void *mosquitto_malloc(size_t size)
{
	on_broker_thread(__func__);
	return malloc(size);
}

void mosquitto_free(void *memory)
{
	on_broker_thread(__func__);
	free(memory);
}

/* The next round delivers it, and keeps it. The real one writes none under $SYS to disk. */
static int publish_retained(const char *topic, int length, void *payload, int qos)
{
	if(strncmp(topic, "$SYS/broker/auth0/", strlen("$SYS/broker/auth0/")) || qos != 0){
		fake_violation("a retained message that is no metric");
	}
	size_t place = 0;
	while(place < retained_count && strcmp(retained[place].topic, topic)){
		place++;
	}
	if(place == MAX_RETAINED){
		fake_violation("too many retained messages");
	}
	if(place == retained_count){
		retained[retained_count++].topic = copy(topic);
	}
	free(retained[place].payload);
	retained[place].payload = calloc(1, (size_t)length + 1);
	memcpy(retained[place].payload, payload, (size_t)length);
	retained_published++;
	free(payload);
	return MOSQ_ERR_SUCCESS;
}

/* The next round delivers it, without an ACL check. */
int mosquitto_broker_publish(const char *client_id, const char *topic, int length, void *payload, int qos, bool retain,
	mosquitto_property *properties)
{
	(void)properties;
	on_broker_thread(__func__);
	if(!client_id && retain && topic && length >= 0){
		return publish_retained(topic, length, payload, qos);
	}
	if(!client_id || !topic || length < 0 || qos < 0 || qos > 2 || retain){
		fake_violation("a message that is not for one client");
	}
	if(message_count == MAX_MESSAGES){
		fake_violation("too many messages");
	}
	struct fake_message *message = &messages[message_count++];
	message->client_id = copy(client_id);
	message->topic = copy(topic);
	message->payload = calloc(1, (size_t)length + 1);
	memcpy(message->payload, payload, (size_t)length);
	free(payload);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_callback_register(mosquitto_plugin_id_t *identifier, int event, MOSQ_FUNC_generic_callback function,
	const void *event_data, void *userdata)
{
	on_broker_thread(__func__);
	if(!identifier || !function){
		return MOSQ_ERR_INVAL;
	}
	if(!event_exists(event)){
		return event == refused_event ? refused_code : MOSQ_ERR_NOT_SUPPORTED;
	}
	if(event == MOSQ_EVT_CONTROL){
		return register_control(identifier, function, event_data, userdata);
	}
	int listener = identifier->listener;
	for(size_t i = 0; i < registered_count[listener]; i++){
		const struct registration *other = &registered[listener][i];
		bool same = other->event == event && other->function == function;
		/* 2.0 compares only the function (src/plugin.c, check_callback_exists). */
		if(same && (release != FAKE_2_1_2 || other->identifier == identifier)){
			return MOSQ_ERR_ALREADY_EXISTS;
		}
	}
	if(registered_count[listener] == MAX_REGISTERED){
		fake_violation("too many callbacks");
	}
	struct registration made = {identifier, event, function, userdata, {0}, {0}};
	registered[listener][registered_count[listener]++] = made;
	if(release == FAKE_2_1_2){
		/* The real one logs here: src/plugin_callbacks.c. */
		mosquitto_log_printf(MOSQ_LOG_INFO, "Plugin has registered to receive event %d.", event);
	}
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *identifier, int event, MOSQ_FUNC_generic_callback function,
	const void *event_data)
{
	(void)event_data;
	on_broker_thread(__func__);
	if(!identifier || !function){
		return MOSQ_ERR_INVAL;
	}
	int listener = identifier->listener;
	for(size_t i = 0; i < registered_count[listener]; i++){
		struct registration *other = &registered[listener][i];
		if(other->event == event && other->function == function
				&& (release != FAKE_2_1_2 || other->identifier == identifier)){

			registered_count[listener]--;
			memmove(other, other + 1, (registered_count[listener] - i) * sizeof(*other));
			return MOSQ_ERR_SUCCESS;
		}
	}
	return MOSQ_ERR_NOT_FOUND;
}

const char *mosquitto_client_address(const struct mosquitto *client)
{
	return living(client, __func__) ? client->address : NULL;
}

bool mosquitto_client_clean_session(const struct mosquitto *client)
{
	return living(client, __func__) ? client->clean_start : true;
}

const char *mosquitto_client_id(const struct mosquitto *client)
{
	return living(client, __func__) ? client->id : NULL;
}

int mosquitto_client_protocol(const struct mosquitto *client)
{
	return living(client, __func__) && client->websocket ? mp_websockets : mp_mqtt;
}

int mosquitto_client_protocol_version(const struct mosquitto *client)
{
	return living(client, __func__) ? client->protocol_version : 0;
}

/* A client gets its subscriptions when it is in. */
int mosquitto_client_sub_count(const struct mosquitto *client)
{
	return living(client, __func__) && client->state != ST_NEW && client->subscription;
}

const char *mosquitto_client_username(const struct mosquitto *client)
{
	return living(client, __func__) ? client->username : NULL;
}

int mosquitto_set_username(struct mosquitto *client, const char *username)
{
	if(!living(client, __func__)){
		return MOSQ_ERR_INVAL;
	}
	if(set_username_result){
		return set_username_result;
	}
	if(username && username[0] == '\0'){
		return MOSQ_ERR_INVAL;
	}
	if(username && release != FAKE_2_0_11){
		for(const unsigned char *c = (const unsigned char *)username; *c; c++){
			if(*c < 0x20 || *c == 0x7f || (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)){
				return MOSQ_ERR_MALFORMED_UTF8;
			}
		}
	}
	replace(&client->username, copy(username));
	return MOSQ_ERR_SUCCESS;
}

/* The first ones of 2.0 take the empty string for a topic (lib/util_topic.c). */
int mosquitto_pub_topic_check(const char *topic)
{
	return topic[0] || release == FAKE_2_0_11 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_INVAL;
}

int mosquitto_kick_client_by_clientid(const char *clientid, bool with_will)
{
	on_broker_thread(__func__);
	if(!clientid){
		fake_violation("every client would have been kicked");
	}
	if(!in_tick){
		fake_violation("a client was kicked outside a tick");
	}
	kick_count++;
	struct mosquitto *client = fake_by_id(clientid);
	if(!client){
		return MOSQ_ERR_NOT_FOUND;
	}
	if(client->state == ST_OFFLINE && release != FAKE_2_1_2){
		fake_violation("an offline session was kicked: 2.0 puts it on its expiry list twice");
	}
	if(client->kept && client->subscription){
		fake_acl(client, MOSQ_ACL_SUBSCRIBE, client->subscription);
	}
	fake_disconnect(client, with_will);
	return MOSQ_ERR_SUCCESS;
}

void mosquitto_log_printf(int level, const char *fmt, ...)
{
	/* The real buffer has 1000 bytes, and a time stamp comes first. */
	char line[1000 - 20];
	va_list args;

	on_broker_thread(__func__);
	va_start(args, fmt);
	int length = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if(length < 0 || (size_t)length >= sizeof(line)){
		fake_violation("a line is too long for the broker's log");
	}
	for(const char *c = line; *c; c++){
		if((unsigned char)*c < 0x20){
			fake_violation("a line holds control characters");
		}
	}
	if(line_count == MAX_LINES){
		fake_violation("the log is flooded");
	}
	levels[line_count] = level;
	lines[line_count++] = strdup(line);

	if(!log_to_topic){
		return;
	}
	/* `log_dest topic`: the line is a message for the clients that may read it. */
	log_depth++;
	if(log_depth > log_depth_max){
		log_depth_max = log_depth;
	}
	if(log_depth > 20){
		fake_violation("a line about a line about a line ...");
	}
	for(size_t i = 0; i < client_count; i++){
		struct mosquitto *client = clients[i];
		bool session = client->state == ST_CONNECTED || client->state == ST_OFFLINE;
		if(session && client->subscription && !strncmp(client->subscription, "$SYS/broker/log", 15)){
			fake_acl(client, MOSQ_ACL_READ, "$SYS/broker/log/N");
		}
	}
	log_depth--;
}


/* ---- calls of the plugin ---- */

static void note(const struct mosquitto *client, int event, int access, const char *topic, int code)
{
	if(!pthread_equal(broker_thread, pthread_self())){
		return; /* the HTTP API keeps no record */
	}
	if(answer_count == MAX_ANSWERS){
		fake_violation("too many answers");
	}
	struct fake_answer *answer = &answers[answer_count++];
	*answer = (struct fake_answer){.client = client, .event = event, .access = access, .code = code};
	if(topic){
		strncpy(answer->topic, topic, sizeof(answer->topic) - 1);
	}
}

static bool passes(int code)
{
	return code == MOSQ_ERR_PLUGIN_DEFER || (code == PLUGIN_IGNORE && release == FAKE_2_1_2);
}

/* Always inlined, so that the plugin sees the same chain of callers as in a real 2.0. */
static inline __attribute__((always_inline)) int raw(int listener, int event, void *data)
{
	/* A copy: a callback may register or unregister. */
	struct registration list[MAX_REGISTERED];
	size_t count = registered_count[listener];
	memcpy(list, registered[listener], count * sizeof(*list));
	bool asks = event >= MOSQ_EVT_ACL_CHECK && event <= MOSQ_EVT_EXT_AUTH_CONTINUE;
	int code = asks ? MOSQ_ERR_PLUGIN_DEFER : MOSQ_ERR_SUCCESS;

	for(size_t i = 0; i < count; i++){
		if(list[i].event != event){
			continue;
		}
		code = list[i].function(event, data, list[i].userdata);
		if(asks && !passes(code)){
			return code;
		}
		if(!asks && code != MOSQ_ERR_SUCCESS){
			fake_violation("an event that is no question was answered with an error");
		}
	}
	return code;
}

int fake_raw(int listener, int event, void *data)
{
	return raw(listener, event, data);
}

int fake_raw_userdata(int listener, int event, void *data, void *userdata)
{
	for(size_t i = 0; i < registered_count[listener]; i++){
		if(registered[listener][i].event == event){
			return registered[listener][i].function(event, data, userdata);
		}
	}
	fake_violation("nobody has registered for this event");
	return -1;
}

/* The refusals that a broker understands. On any other code it closes the connection without a CONNACK. */
static void judge_login(const struct mosquitto *client, int code)
{
	if(code == FAKE_ERR_AUTH_DELAYED && release == FAKE_2_1_2 && client->may_wait){
		return;
	}
	switch(code){
		case MOSQ_ERR_SUCCESS:
		case MOSQ_ERR_AUTH:
			return;
		case 134: case 136: case 137: case 138:
			if(release == FAKE_2_1_2){
				return;
			}
	}
	fprintf(stderr, "code %d: ", code);
	fake_violation("no answer to a login that this broker understands");
}

int fake_basic_auth(struct mosquitto *client)
{
	struct mosquitto_evt_basic_auth event;
	memset(&event, 0, sizeof(event));
	event.client = client;
	event.username = client->username;
	event.password = client->password;
	memcpy(event.future2, &client->password_len, sizeof(client->password_len));
	int code = raw(client->listener, MOSQ_EVT_BASIC_AUTH, &event);
	if(passes(code)){
		code = MOSQ_ERR_AUTH;
	}
	judge_login(client, code);
	note(client, MOSQ_EVT_BASIC_AUTH, 0, NULL, code);
	return code;
}

int fake_acl(struct mosquitto *client, int access, const char *topic)
{
	if(!client->id){
		return MOSQ_ERR_ACL_DENIED;
	}
	struct mosquitto_evt_acl_check event;
	memset(&event, 0, sizeof(event));
	event.client = client;
	event.topic = topic;
	event.access = access;
	int code = fake_raw(client->listener, MOSQ_EVT_ACL_CHECK, &event);
	if(passes(code)){
		code = MOSQ_ERR_ACL_DENIED;
	}
	if(code != MOSQ_ERR_SUCCESS && code != MOSQ_ERR_ACL_DENIED){
		fprintf(stderr, "code %d: ", code);
		fake_violation("an answer about a topic that disconnects somebody");
	}
	note(client, MOSQ_EVT_ACL_CHECK, access, topic, code);
	return code;
}

/* `check_retain_source true`: may the publisher of this retained message still write it? The broker
 * asks with a temporary client on its stack (src/retain.c). */
int fake_retain_source(const struct mosquitto *source, const char *topic)
{
	struct mosquitto pseudo;
	memset(&pseudo, 0, sizeof(pseudo));
	pseudo.id = source->id;
	pseudo.username = source->username;
	pseudo.listener = source->listener;
	return fake_acl(&pseudo, MOSQ_ACL_WRITE, topic);
}

/* 2.1: src/http_api.c asks on a thread of its own, with a temporary client on its stack. */
int fake_http_api(const char *username, const char *password, bool acl)
{
	struct mosquitto pseudo;
	memset(&pseudo, 0, sizeof(pseudo));
	char id[] = "http-api";
	char *user = copy(username), *pass = copy(password);
	pseudo.id = id;
	pseudo.username = user;
	pseudo.password = pass;
	int code = acl ? fake_acl(&pseudo, MOSQ_ACL_READ, "/api/v1/version") : fake_basic_auth(&pseudo);
	free(user);
	free(pass);
	return code;
}

static void say_gone(struct mosquitto *client, int event)
{
	struct mosquitto_evt_disconnect data;
	/* With per_listener_settings 2.0 fills in no more than these two (src/plugin.c). */
	memset(&data, release == FAKE_2_1_2 ? 0 : 0xa5, sizeof(data));
	data.client = client;
	data.reason = release == FAKE_2_1_2 ? 7 : -1;
	/* 2.1 skips clients that have no id (src/plugin_disconnect.c). */
	if(release == FAKE_2_1_2 && !client->id){
		return;
	}
	int code = fake_raw(client->listener, event, &data);
	note(client, event, 0, NULL, code);
}

static void send_will(struct mosquitto *client)
{
	if(client->will){
		fake_acl(client, MOSQ_ACL_WRITE, client->will);
		replace(&client->will, NULL);
	}
}

static void let_in(struct mosquitto *client)
{
	struct mosquitto *old = fake_by_id(client->id);
	char *queued = NULL;
	if(old){
		if(old->kept && !client->clean_start){
			queued = copy(old->queued);
		}
		send_will(old);
		if(old->websocket && old->state == ST_CONNECTED){
			old->late_disconnect = true;
		}else{
			say_gone(old, MOSQ_EVT_DISCONNECT);
		}
		old->state = ST_GONE;
	}
	client->state = ST_CONNECTED;
	if(queued){
		fake_acl(client, MOSQ_ACL_READ, queued);
		free(queued);
	}
}

static void turn_away(struct mosquitto *client)
{
	if(release == FAKE_2_0_11){
		replace(&client->id, NULL); /* src/handle_connect.c frees the ID before the disconnect event */
	}
	say_gone(client, MOSQ_EVT_DISCONNECT);
	client->state = ST_GONE;
}

/* mosquitto_complete_basic_auth: finds the client by its ID, and does nothing if none waits. Everything
 * that admitting a client involves happens before it returns. */
void fake_complete(const char *id, int result)
{
	if(!in_tick){
		fake_violation("an authentication was completed outside a tick");
	}
	for(size_t i = 0; i < client_count; i++){
		struct mosquitto *client = clients[i];
		if(client->waits && client->id && !strcmp(client->id, id)){
			client->waits = false;
			client->verdict = result == MOSQ_ERR_SUCCESS ? result : MOSQ_ERR_AUTH;
			if(result == MOSQ_ERR_SUCCESS){
				let_in(client);
			}else{
				turn_away(client);
			}
			return;
		}
	}
}

/* The loop continues until the plugin answers. If it never does, the test hangs. */
static int wait_for_verdict(struct mosquitto *client)
{
	for(int rounds = 0; client->waits; rounds++){
		if(rounds == 30000){
			fake_violation("a client waits and is never told");
		}
		fake_tick();
		usleep(1000);
	}
	return client->verdict;
}

static bool somebody_waits_under(const char *id)
{
	for(size_t i = 0; i < client_count; i++){
		if(clients[i]->waits && clients[i]->id && id && !strcmp(clients[i]->id, id)){
			return true;
		}
	}
	return false;
}

/* A CONNECT. If it is delayed, there is no result yet. */
int fake_start_connect(struct mosquitto *client)
{
	if(client->state != ST_NEW){
		fake_violation("the test connects a client twice");
	}
	/* src/handle_connect.c: without asking the plugin and without a CONNACK. */
	if(somebody_waits_under(client->id)){
		turn_away(client);
		return MOSQ_ERR_UNKNOWN;
	}
	client->may_wait = true;
	int code = fake_basic_auth(client);
	client->may_wait = false;
	if(code == FAKE_ERR_AUTH_DELAYED){
		client->waits = true;
	}else if(code == MOSQ_ERR_SUCCESS){
		let_in(client);
	}else{
		turn_away(client);
	}
	return code;
}

static char auth_data[256];
static size_t auth_data_length;

/* Returns the data of the plugin's last answer. */
size_t fake_auth_data(char *data, size_t most)
{
	size_t length = auth_data_length < most ? auth_data_length : most;
	memcpy(data, auth_data, length);
	return length;
}

static int extended_auth(struct mosquitto *client, int number, const void *data, size_t length)
{
	struct mosquitto_evt_extended_auth event;
	memset(&event, 0, sizeof(event));
	event.client = client;
	event.data_in = length ? data : NULL;
	event.data_in_len = (uint16_t)length;
	/* 2.0 names no method when an exchange goes on (src/security.c). */
	if(number == MOSQ_EVT_EXT_AUTH_START || release == FAKE_2_1_2){
		event.auth_method = client->method;
	}
	int code = fake_raw(client->listener, number, &event);
	if(passes(code)){
		code = MOSQ_ERR_NOT_SUPPORTED;
	}
	auth_data_length = event.data_out_len;
	if(auth_data_length > sizeof(auth_data)){
		fake_violation("much data for a client");
	}
	memcpy(auth_data, event.data_out, auth_data_length);
	free(event.data_out);
	note(client, number, 0, NULL, code);
	return code;
}

/* A CONNECT with an authentication method (src/handle_connect.c). */
int fake_connect_by(struct mosquitto *client, const char *method, const void *data, size_t length)
{
	if(client->state != ST_NEW){
		fake_violation("the test connects a client twice");
	}
	replace(&client->method, copy(method));
	int code = extended_auth(client, MOSQ_EVT_EXT_AUTH_START, data, length);
	if(code == MOSQ_ERR_SUCCESS){
		let_in(client);
	}else if(code == MOSQ_ERR_AUTH_CONTINUE){
		client->exchange = AUTHENTICATING;
	}else{
		replace(&client->will, NULL);
		replace(&client->id, NULL);
		turn_away(client);
	}
	return code;
}

/* An AUTH packet (src/handle_auth.c). */
int fake_auth(struct mosquitto *client, int reason, const void *data, size_t length)
{
	bool is_active = client->state == ST_CONNECTED && client->exchange == NO_EXCHANGE;
	if(!client->method || reason == FAKE_REAUTHENTICATE ? !is_active : reason && is_active){
		fake_violation("an AUTH packet that the broker does not show to a plugin");
	}
	int number = MOSQ_EVT_EXT_AUTH_CONTINUE;
	if(reason == FAKE_REAUTHENTICATE){
		client->exchange = REAUTHENTICATING;
		number = MOSQ_EVT_EXT_AUTH_START;
	}else if(client->exchange != REAUTHENTICATING){
		client->exchange = AUTHENTICATING;
	}
	int code = extended_auth(client, number, data, length);
	if(code == MOSQ_ERR_AUTH_CONTINUE){
		return code;
	}
	if(client->exchange == AUTHENTICATING && client->state == ST_CONNECTED){
		fake_violation("a client that is in was let in or turned away: the broker uses memory that it has freed");
	}
	bool was_in = client->exchange == REAUTHENTICATING;
	client->exchange = NO_EXCHANGE;
	if(code == MOSQ_ERR_SUCCESS){
		if(!was_in){
			let_in(client);
		}
		return code;
	}
	if(was_in && release == FAKE_2_0_11 && (code == MOSQ_ERR_AUTH || code == MOSQ_ERR_NOT_SUPPORTED)){
		fake_violation("a second CONNACK");
	}
	if(was_in){
		fake_disconnect(client, true);
	}else{
		replace(&client->will, NULL);
		replace(&client->id, NULL);
		turn_away(client);
	}
	return code;
}

int fake_connect(struct mosquitto *client)
{
	int code = fake_start_connect(client);
	return code == FAKE_ERR_AUTH_DELAYED ? wait_for_verdict(client) : code;
}

/* A waiting client closes its connection, of which the plugin is not told (src/context.c). */
void fake_hang_up(struct mosquitto *client)
{
	if(!client->waits){
		fake_violation("the test hangs up for a client that does not wait");
	}
	client->waits = false;
	client->state = ST_GONE;
}

/* The will is sent after the event, in every release up to 2.1.2 (src/context.c). */
void fake_disconnect(struct mosquitto *client, bool with_will)
{
	bool offline = release == FAKE_2_1_2 && client->kept;
	say_gone(client, offline ? FAKE_EVT_CLIENT_OFFLINE : MOSQ_EVT_DISCONNECT);
	if(with_will){
		send_will(client);
	}else{
		replace(&client->will, NULL);
	}
	client->state = client->kept ? ST_OFFLINE : ST_GONE;
}

/* As in src/plugin.c of 2.0 and src/plugin_tick.c of 2.1. */
static void tick(struct registration *to)
{
	struct mosquitto_evt_tick event;
	struct timespec now, *next = &to->next_tick;
	memset(&event, 0, sizeof(event));
	if(release != FAKE_2_1_2){
		to->function(MOSQ_EVT_TICK, &event, to->userdata);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	event.now_s = now.tv_sec + clock_ahead;
	event.now_ns = now.tv_nsec;
	if(event.now_s < next->tv_sec || (event.now_s == next->tv_sec && event.now_ns <= next->tv_nsec)){
		return;
	}
	to->function(MOSQ_EVT_TICK, &event, to->userdata);
	/* In 2.1 this member is next_ms. */
	next->tv_sec = event.now_s + event.next_s;
	next->tv_nsec = event.now_ns + 1000000 * event.next_ns;
	if(next->tv_nsec > 1000000000){
		next->tv_nsec -= 1000000000;
		next->tv_sec += 1;
	}
	/* Without websockets it sleeps until then (src/mux_epoll.c). */
	if(event.next_s * 1000 + event.next_ns != 100){
		fake_violation("the next round may be a long time coming");
	}
}

/* A PUBLISH to a control topic: the ACL check, and then the callback (src/handle_publish.c, src/control.c). Returns
 * whether the message came to a callback. */
bool fake_control(struct mosquitto *client, const char *topic, const void *payload, size_t length)
{
	if(fake_acl(client, MOSQ_ACL_WRITE, topic) != MOSQ_ERR_SUCCESS){
		return false;
	}
	struct mosquitto_evt_control event;
	memset(&event, 0, sizeof(event));
	event.client = client;
	event.topic = topic;
	event.payload = length ? (void *)payload : NULL;
	event.payloadlen = (uint32_t)length;
	for(int listener = 0; listener < MAX_LISTENERS; listener++){
		if(release != FAKE_2_1_2 && listener != client->listener){
			continue;
		}
		for(size_t i = 0; i < registered_count[listener]; i++){
			const struct registration *to = &registered[listener][i];
			if(!strcmp(to->topic, topic)){
				if(to->function(MOSQ_EVT_CONTROL, &event, to->userdata)){
					fake_violation("a client is disconnected because of what it published");
				}
				return true;
			}
		}
	}
	return false;
}

/* A kept session expires, which the broker does not report. */
void fake_expire(struct mosquitto *client)
{
	if(client->state != ST_OFFLINE){
		fake_violation("the test expires a client that is there");
	}
	client->state = ST_GONE;
}

void fake_tick(void)
{
	/* The top of the loop: context__free_disused. The struct itself stays, as the allocator may
	 * hand its address out again: fake_client_refill. */
	for(size_t i = 0; i < client_count; i++){
		if(clients[i]->state == ST_GONE && !clients[i]->late_disconnect){
			clients[i]->freed = true;
		}
	}
	in_tick = true;
	for(int listener = 0; listener < MAX_LISTENERS; listener++){
		/* "FIXME - iterate over all listeners", says 2.0.11. */
		if(listener > 0 && release == FAKE_2_0_11){
			break;
		}
		for(size_t i = 0; i < registered_count[listener]; i++){
			if(registered[listener][i].event == MOSQ_EVT_TICK){
				tick(&registered[listener][i]);
			}
		}
	}
	in_tick = false;
	for(size_t i = 0; i < client_count; i++){
		if(clients[i]->late_disconnect){
			say_gone(clients[i], MOSQ_EVT_DISCONNECT);
			clients[i]->late_disconnect = false;
		}
	}
}

int fake_reload(void)
{
	int code = 0;
	for(int listener = 0; listener < MAX_LISTENERS; listener++){
		/* Every release sends the event without options. */
		struct mosquitto_evt_reload event;
		memset(&event, 0, sizeof(event));
		code |= fake_raw(listener, MOSQ_EVT_RELOAD, &event);
	}
	note(NULL, MOSQ_EVT_RELOAD, 0, NULL, code);
	return code;
}

void fake_sighup(void)
{
	fake_reload();
	size_t count = client_count;
	for(size_t i = 0; i < count; i++){
		struct mosquitto *client = clients[i];
		if(client->state != ST_CONNECTED && client->state != ST_OFFLINE){
			continue;
		}
		if(fake_basic_auth(client) == MOSQ_ERR_SUCCESS){
			continue;
		}
		if(client->state == ST_OFFLINE && release != FAKE_2_1_2){
			fake_violation("an offline session was refused: 2.0 puts it on its expiry list twice");
		}
		fake_disconnect(client, true);
	}
}


/* ---- controls for tests ---- */

void fake_start(int which)
{
	release = (enum fake_release)which;
	broker_thread = pthread_self();
}

mosquitto_plugin_id_t *fake_identifier(int listener)
{
	mosquitto_plugin_id_t *identifier = calloc(1, sizeof(*identifier));
	identifier->listener = listener;
	return identifier;
}

/* 2.1 does this when a plugin is unloaded (src/plugin_cleanup.c); 2.0 never does. NULL: all. */
void fake_unregister(const mosquitto_plugin_id_t *identifier)
{
	for(int listener = 0; listener < MAX_LISTENERS; listener++){
		size_t kept = 0;
		for(size_t i = 0; i < registered_count[listener]; i++){
			if(identifier && registered[listener][i].identifier != identifier){
				registered[listener][kept++] = registered[listener][i];
			}
		}
		registered_count[listener] = kept;
	}
}

void fake_log_init_failure(int code)
{
	mosquitto_log_printf(MOSQ_LOG_ERR, "Error: Plugin returned %d when initialising.", code);
}

void fake_refuse_event(int event, int code)
{
	refused_event = event;
	refused_code = code;
}

void fake_set_username_result(int code)
{
	set_username_result = code;
}

void fake_set_clock(long seconds)
{
	clock_ahead = seconds;
}

void fake_log_to_topic(bool on)
{
	log_to_topic = on;
}

void fake_client_refill(struct mosquitto *client, const struct fake_spec *spec)
{
	replace(&client->id, copy(spec->id));
	replace(&client->username, copy(spec->username));
	replace(&client->password, copy(spec->password));
	replace(&client->address, copy(spec->address));
	replace(&client->will, copy(spec->will));
	replace(&client->subscription, copy(spec->subscription));
	replace(&client->queued, copy(spec->queued));
	client->protocol_version = spec->protocol_version;
	client->listener = spec->listener;
	client->password_len = spec->password_len;
	client->clean_start = spec->clean_start;
	client->kept = spec->kept;
	client->websocket = spec->websocket;
	client->late_disconnect = false;
	client->freed = false;
	client->state = ST_NEW;
}

struct mosquitto *fake_client_new(const struct fake_spec *spec)
{
	if(client_count == MAX_CLIENTS){
		fake_violation("too many clients");
	}
	struct mosquitto *client = calloc(1, CLIENT_BYTES);
	fake_client_refill(client, spec);
	clients[client_count++] = client;
	return client;
}

/* A session from mosquitto.db, without a CONNECT (src/persist_read.c). */
struct mosquitto *fake_client_restored(const char *id, const char *username, const char *subscription)
{
	struct fake_spec spec = {.id = id, .username = username, .subscription = subscription, .kept = true};
	struct mosquitto *client = fake_client_new(&spec);
	client->state = ST_OFFLINE;
	return client;
}

/* Connected and offline sessions, like contexts_by_id. */
struct mosquitto *fake_by_id(const char *id)
{
	for(size_t i = client_count; id && i-- > 0;){
		struct mosquitto *client = clients[i];
		bool session = client->state == ST_CONNECTED || client->state == ST_OFFLINE;
		if(session && client->id && !strcmp(client->id, id)){
			return client;
		}
	}
	return NULL;
}

int fake_state(const struct mosquitto *client)
{
	return client->state;
}

const char *fake_username(const struct mosquitto *client)
{
	return client->username;
}

size_t fake_retained_published(void)
{
	return retained_published;
}

const char *fake_retained(const char *topic)
{
	for(size_t i = 0; i < retained_count; i++){
		if(strcmp(retained[i].topic, topic) == 0){
			return retained[i].payload;
		}
	}
	return NULL;
}

size_t fake_message_count(void)
{
	return message_count;
}

const struct fake_message *fake_message_at(size_t index)
{
	return &messages[index];
}

size_t fake_registered(int listener, int event)
{
	size_t count = 0;
	for(size_t i = 0; i < registered_count[listener]; i++){
		count += registered[listener][i].event == event;
	}
	return count;
}

size_t fake_log_count(void)
{
	return line_count;
}

const char *fake_log_line(size_t index, int *level)
{
	*level = levels[index];
	return lines[index];
}

size_t fake_answer_count(void)
{
	return answer_count;
}

const struct fake_answer *fake_answer_at(size_t index)
{
	return &answers[index];
}

size_t fake_kick_count(void)
{
	return kick_count;
}

size_t fake_log_depth(void)
{
	return log_depth_max;
}
