/* A plugin that admits every client and logs from which place in the broker's code it was called (src/host.c). */
#include "host.h"
#include "plugin.h"

#include <string.h>

/* 2.1 only. */
void mosquitto_complete_basic_auth(const char *client_id, int result);
#pragma weak mosquitto_complete_basic_auth

/* The places that were seen. */
static struct mosquitto_auth0_call_site seen[8];
static size_t places;

static int basic_auth(int event, void *data, void *userdata)
{
	/* As many as the plugin compares. */
	const size_t levels = mosquitto_complete_basic_auth ? 3 : 2;
	const struct mosquitto_auth0_call_site here = mosquitto_auth0_called_from();
	size_t i;

	(void)event;
	(void)data;
	(void)userdata;
	if(here.levels < levels){
		mosquitto_log_printf(MOSQ_LOG_INFO, "asked from nowhere");
		return MOSQ_ERR_SUCCESS;
	}
	mosquitto_log_printf(MOSQ_LOG_INFO, "asked from %#lx", (unsigned long)here.returns_to[levels - 1]);
	for(i = 0; i < places; i++){
		bool same = memcmp(here.returns_to, seen[i].returns_to, levels * sizeof(here.returns_to[0])) == 0;
		if(same != mosquitto_auth0_is_called_from(&seen[i], levels)){
			mosquitto_log_printf(MOSQ_LOG_INFO, "compared wrongly");
		}
	}
	if(places < sizeof(seen) / sizeof(seen[0])){
		seen[places++] = here;
	}
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, mosquitto_auth0_noting_caller(basic_auth), NULL, NULL);
}
