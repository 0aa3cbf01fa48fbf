/* A plugin for Mosquitto 2.1 that sends each user name and password to a token endpoint, on worker threads, and
 * answers the broker on the next tick. It checks no token, knows no rights and limits nothing. It shows how short
 * the silence of other clients can be while devices sign in.
 *
 * Options: url, ca_file, audience, client_id, client_secret, realm. The user name JWT is allowed at once. */

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

/* MOSQ_ERR_AUTH_DELAYED of Mosquitto 2.1's headers. */
#define DELAYED (-5)
#define WORKERS 64
#define FIELDS 5

void mosquitto_complete_basic_auth(const char *client_id, int result);

/* A sign-in: first in `waiting`, then in `answered`. */
struct login {
	struct login *next;
	char *client_id, *username, *password;
	int result;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct login *waiting, *answered;
static atomic_int has_answers;

static const char *url, *ca_file;
static struct { const char *option, *field, *value; } fields[FIELDS] = {
	{ "audience", "audience", "" },
	{ "client_id", "client_id", "" },
	{ "client_secret", "client_secret", "" },
	{ "realm", "realm", "" },
	{ "", "grant_type", "http://auth0.com/oauth/grant-type/password-realm" },
};

static size_t discard(char *data, size_t size, size_t count, void *unused)
{
	(void)data, (void)unused;
	return size * count;
}

/* Appends a field to a form in a buffer that is large enough for the tests' short values. */
static void add(CURL *curl, char *form, size_t size, const char *name, const char *value)
{
	char *escaped = curl_easy_escape(curl, value, 0);
	size_t used = strlen(form);
	snprintf(form + used, size - used, "%s%s=%s", used ? "&" : "", name, escaped ? escaped : "");
	curl_free(escaped);
}

static int ask(CURL *curl, const struct login *login)
{
	char form[4096] = "";
	long status = 0;
	add(curl, form, sizeof form, "username", login->username);
	add(curl, form, sizeof form, "password", login->password);
	for (int i = 0; i < FIELDS; i++)
		add(curl, form, sizeof form, fields[i].field, fields[i].value);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, form);
	if (curl_easy_perform(curl) == CURLE_OK)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	return status == 200 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
}

/* Each worker keeps its connection. */
static void *work(void *unused)
{
	(void)unused;
	CURL *curl = curl_easy_init();
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, discard);
	pthread_mutex_lock(&lock);
	for (;;) {
		while (!waiting)
			pthread_cond_wait(&more, &lock);
		struct login *login = waiting;
		waiting = login->next;
		pthread_mutex_unlock(&lock);
		login->result = ask(curl, login);
		pthread_mutex_lock(&lock);
		login->next = answered;
		answered = login;
		atomic_store(&has_answers, 1);
	}
	return NULL;
}

static int on_basic_auth(int event, void *data, void *unused)
{
	(void)event, (void)unused;
	const struct mosquitto_evt_basic_auth *connect = data;
	if (!connect->username || !connect->password)
		return MOSQ_ERR_AUTH;
	if (!strcmp(connect->username, "JWT"))
		return MOSQ_ERR_SUCCESS;
	struct login *login = calloc(1, sizeof *login);
	login->client_id = strdup(mosquitto_client_id(connect->client));
	login->username = strdup(connect->username);
	login->password = strdup(connect->password);
	pthread_mutex_lock(&lock);
	login->next = waiting;
	waiting = login;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
	return DELAYED;
}

static int on_tick(int event, void *data, void *unused)
{
	(void)event, (void)data, (void)unused;
	if (!atomic_exchange(&has_answers, 0))
		return MOSQ_ERR_SUCCESS;
	pthread_mutex_lock(&lock);
	struct login *login = answered;
	answered = NULL;
	pthread_mutex_unlock(&lock);
	while (login) {
		struct login *next = login->next;
		mosquitto_complete_basic_auth(login->client_id, login->result);
		free(login->client_id);
		free(login->username);
		free(login->password);
		free(login);
		login = next;
	}
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_version(int count, const int *versions)
{
	(void)count, (void)versions;
	return 5;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	for (int i = 0; i < count; i++) {
		if (!strcmp(options[i].key, "url"))
			url = options[i].value;
		if (!strcmp(options[i].key, "ca_file"))
			ca_file = options[i].value;
		for (int j = 0; j < FIELDS; j++)
			if (!strcmp(options[i].key, fields[j].option))
				fields[j].value = options[i].value;
	}
	curl_global_init(CURL_GLOBAL_ALL);
	for (int i = 0; i < WORKERS; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, work, NULL))
			return MOSQ_ERR_UNKNOWN;
		pthread_detach(thread);
	}
	mosquitto_callback_register(id, MOSQ_EVT_TICK, on_tick, NULL, NULL);
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, on_basic_auth, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata, (void)options, (void)count;
	return MOSQ_ERR_SUCCESS;
}
