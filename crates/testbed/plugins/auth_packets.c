/* A plugin that takes every authentication method, and answers each packet that continues an exchange with the code in
 * its option `code`. It shows what this does to the broker without our plugin. */
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

static int code;

static int start(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	return MOSQ_ERR_SUCCESS;
}

static int go_on(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	return code;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	for(int i = 0; i < count; i++){
		if(!strcmp(options[i].key, "code")){
			code = atoi(options[i].value);
		}
	}
	mosquitto_callback_register(id, MOSQ_EVT_EXT_AUTH_START, start, NULL, NULL);
	return mosquitto_callback_register(id, MOSQ_EVT_EXT_AUTH_CONTINUE, go_on, NULL, NULL);
}
