with source as (

    select * from {{ source('raw', 'streaming_netflix_titles') }}
    union all by name
    select * from {{ source('raw', 'streaming_amazon_prime_titles') }}
    union all by name
    select * from {{ source('raw', 'streaming_disney_plus_titles') }}
    union all by name
    select * from {{ source('raw', 'streaming_hulu_titles') }}

),

named as (

    select
        platform,
        show_id,
        type as source_type,
        title as source_title,
        director as source_director,
        "cast" as source_cast,
        country as source_country,
        date_added as source_date_added,
        release_year,
        rating as source_rating,
        duration as source_duration,
        listed_in as source_listed_in,
        description as source_description,
        concat_ws(' ', type, title, director, "cast", country, rating, listed_in, description) as all_text,
        regexp_matches(coalesce(rating, ''), {{ duration_pattern() }}) as is_slipped
    from source

),

placed as (

    select
        *,
        case when not is_slipped then source_rating end as own_rating,
        coalesce(source_duration, case when is_slipped then source_rating end) as own_duration,
        cast(try_strptime(trim(source_date_added), '%B %-d, %Y') as date) as date_added
    from named

),

final as (

    select
        platform[1] || show_id as title_id,
        platform,
        show_id,
        {{ clean_text('source_type') }} as type,
        coalesce({{ clean_text('source_title') }}, lower(source_title)) as title,
        {{ clean_list('source_director') }} as directors,
        {{ clean_list('source_cast') }} as cast_names,
        {{ clean_list('source_country') }} as countries,
        date_added,
        release_year,
        coalesce({{ clean_text('own_rating') }}, 'g') as rating,
        try_cast(nullif(regexp_extract(own_duration, {{ duration_pattern() }}, 1), '') as integer) as duration,
        lower(nullif(regexp_extract(own_duration, {{ duration_pattern() }}, 2), '')) as duration_type,
        {{ clean_list('source_listed_in') }} as genres,
        {{ clean_text('source_description') }} as description,
        source_type,
        source_title,
        source_director,
        source_cast,
        source_country,
        source_date_added,
        source_rating,
        source_duration,
        source_listed_in,
        source_description,
        [rule for rule in [
            'id made of platform and show_id',
            case when all_text != lower(all_text) then 'text lower-cased' end,
            case when date_added is not null then 'date made iso' end,
            case when source_date_added is not null and date_added is null then 'date not readable' end,
            case when regexp_matches(coalesce(own_duration, ''), {{ duration_pattern() }}) then 'duration split' end,
            case
                when own_duration is not null and not regexp_matches(own_duration, {{ duration_pattern() }})
                    then 'duration not readable'
            end,
            case when is_slipped and source_duration is null then 'duration moved from rating' end,
            case when is_slipped and source_duration is not null then 'second duration dropped from rating' end,
            case when source_rating is null then 'empty rating became g' end,
            case when is_slipped then 'slipped rating became g' end,
            case when contains(all_text, chr(65533)) then 'lost character taken out' end,
            case when contains(all_text, chr(10)) then 'line end within a field made a blank' end
        ] if rule is not null] as rules
    from placed

)

select * from final
